"""Facts of a stage as Dagster shows them: numbers, tables and plots in Markdown."""

import base64

import dagster as dg
import pyarrow as pa
import pytest

from flywheel.defs import metadata
from flywheel.wheel.facts import Facts


@pytest.fixture
def facts(tmp_path) -> Facts:
    picture = tmp_path / "loss.png"
    picture.write_bytes(b"a picture")
    return Facts(
        digest="abc",
        counts={"rows": 3, "success": 0.5, "champion": "dpo-1"},
        tables={"reasons": [{"reason": "kept", "rows": 2}, {"reason": "pending", "rows": 1}]},
        plots={"loss": picture},
    )


TABLE = "| reason | rows |\n| --- | --- |\n| kept | 2 |\n| pending | 1 |"
PLOT = f"![loss](data:image/png;base64,{base64.b64encode(b'a picture').decode()})"


def test_in_the_process_of_dagster(facts):
    assert metadata.of(facts) == {
        "rows": 3,
        "success": 0.5,
        "champion": "dpo-1",
        "reasons": dg.MetadataValue.md(TABLE),
        "loss": dg.MetadataValue.md(PLOT),
        "digest": "abc",
    }


def test_from_a_process_of_its_own(facts):
    assert metadata.over_pipes(facts) == {
        "rows": 3,
        "success": 0.5,
        "champion": "dpo-1",
        "reasons": {"raw_value": TABLE, "type": "md"},
        "loss": {"raw_value": PLOT, "type": "md"},
        "digest": "abc",
    }


def test_no_digest_is_not_shown():
    assert metadata.of(Facts()) == metadata.over_pipes(Facts()) == {}


def test_cells_of_a_table_keep_to_their_line():
    rows = [{"why": "a | b\nc", "share": 0.12345, "none": None}]
    assert metadata.markdown_table(rows).splitlines()[-1] == r"| a \| b c | 0.123 |  |"


def test_a_table_without_rows_says_so():
    assert metadata.markdown_table([]) == "(no rows)"


def test_a_long_table_says_how_many_rows_it_left_out():
    lines = metadata.markdown_table([{"n": n} for n in range(metadata.MOST_ROWS + 5)]).splitlines()
    assert lines[-1] == "… and 5 rows more"
    assert lines[-3] == f"| {metadata.MOST_ROWS - 1} |"


def test_columns_are_shown_with_their_types():
    shown = metadata.column_schema(pa.schema([("id", pa.string()), ("steps", pa.list_(pa.int32()))]))
    assert shown["dagster/column_schema"] == dg.TableSchema(
        columns=[dg.TableColumn("id", "string"), dg.TableColumn("steps", "list<item: int32>")]
    )
