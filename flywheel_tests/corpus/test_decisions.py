"""Decisions in several files are summed up as if they stood in one."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.artifacts import write_parquet
from flywheel.corpus import decisions
from flywheel.corpus.manifest import folder
from flywheel.curate.decide import DECISIONS
from flywheel.settings import Home

# What a row is decided, by its id: any of these.
REASONS = ("kept", "held out", "filtered")


def hexes(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()


def rows(decided: dict[str, str]) -> pa.Table:
    """Rows of `DECISIONS`, of which only what a summary reads is filled in."""
    columns = {
        "trajectory_id": sorted(decided),
        "kept": [decided[id] != "filtered" for id in sorted(decided)],
        "split": ["heldout" if decided[id] == "held out" else "train" for id in sorted(decided)],
        "reason": [decided[id] for id in sorted(decided)],
        "row_digest": [hexes(id, decided[id] == "kept") for id in sorted(decided)],
        "decision_digest": [hexes(id, decided[id])[:32] for id in sorted(decided)],
    }
    given = {name: columns.get(name, pa.nulls(len(decided))) for name in DECISIONS.names}
    return pa.table(given).cast(DECISIONS)


def lines(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


some = st.dictionaries(st.text("abcé", max_size=3), st.sampled_from(REASONS), max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(some, min_size=1, max_size=4))
def test_a_later_file_stands_for_its_rows_and_adds_others(tmp_path: Path, files: list[dict[str, str]]) -> None:
    home = Home(tmp_path)
    for number, decided in enumerate(files):
        write_parquet(folder(home, "c") / f"{number}.parquet", rows(decided))
    whole: dict[str, str] = {}
    for decided in files:
        whole |= decided
    found = decisions.summary(home, "c", tuple(f"{number}.parquet" for number in range(len(files))))
    table = rows(whole)
    assert found.decisions_digest == lines(table["decision_digest"].to_pylist()) == decisions.digest(table)
    kept = table.filter(table["kept"])
    assert found.digest == lines(sorted(kept["row_digest"].to_pylist())) == decisions.rows_digest(kept["row_digest"])
    assert (found.candidates, found.rows) == (len(whole), len(kept))
    assert found.reasons == {reason: n for reason in sorted(REASONS) if (n := list(whole.values()).count(reason))}
    assert found.splits == {side: n for side in ("heldout", "train") if (n := kept["split"].to_pylist().count(side))}


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_digest_is_the_same_in_any_blocks(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(decisions, "LINES", 2)
    table = rows({str(n): "kept" for n in range(count)})
    assert decisions.digest(table) == lines(table["decision_digest"].to_pylist())


def test_digests_that_begin_alike_are_in_order() -> None:
    alike = ["0" * 20 + tail + "0" * 43 for tail in "cab"]
    assert decisions.rows_digest(pa.chunked_array([alike])) == lines(sorted(alike))
