"""The proof proves something: what lies on disk is found, however it is packed."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel_tests.plants import KINDS, assert_nowhere, plants


def test_plants_are_of_many_kinds_and_the_same_for_a_seed() -> None:
    planted = plants(7, 200)
    assert planted == plants(7, 200)
    assert {plant.kind for plant in planted} == set(KINDS)
    assert len({plant.value for plant in planted}) == 200
    assert all(plant.value in plant.text for plant in planted)


@pytest.mark.parametrize("place", ["name", "bytes", "gzip", "parquet", "lance"])
def test_what_lies_on_disk_is_found(tmp_path: Path, place: str) -> None:
    value = "ann.lee@example.org"
    (tmp_path / "other").write_text("nothing")
    assert_nowhere(tmp_path, [value])
    table = pa.table({"deep": [{"texts": [f"write to {value}"]}] * 3})
    match place:
        case "name":
            (tmp_path / value).mkdir()
        case "bytes":
            (tmp_path / "journal").write_text(f'{{"text": "{value}"}}')
        case "gzip":
            (tmp_path / "a.gz").write_bytes(gzip.compress(value.encode()))
        case "parquet":
            pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
        case "lance":
            import lance  # a process that has it must not fork, as some tests do

            lance.write_dataset(table, str(tmp_path / "a.lance"))
    with pytest.raises(AssertionError, match=r"ann\.lee"):
        assert_nowhere(tmp_path, ["other value", value])
