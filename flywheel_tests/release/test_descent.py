"""Descent: what came of erased rows is found by lineage, however far, and marked beside its manifest."""

from datetime import UTC, datetime

import pytest

from flywheel import artifacts
from flywheel.capture.erasing.erasure import Affected, Erasure
from flywheel.release.descent import Mark, mark, marks, trace
from flywheel.settings import Home

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def policy(home: Home, id: str, **lineage) -> None:
    artifacts.write_json(home.policies / id / "lineage.json", lineage)


def affected(version: int, trained: int) -> Affected:
    return Affected(ref=f"support@v{version}", candidates=9, rows=9, trained=trained)


def erasure(id: str) -> Erasure:
    return Erasure(id=id, workspace="support", begun_at=MONDAY, by="me", asked={}, salt="", counts={})


@pytest.fixture
def family(home: Home) -> Home:
    """An imitation, trees that it was sampled in, pairs and successful paths of them, and who was trained on these."""
    policy(
        home, "a-control", data={"trajectories": str(home.trees / "v1.successes.parquet")}, base={"model": "scratch"}
    )
    policy(home, "dpo", pairs=[{"path": str(home.pairs / "v1" / "pairs.parquet")}], base={"model": "elsewhere"})
    policy(home, "grandchild", data={"corpus": "support", "version": 7}, base={"policy": "dpo"})
    policy(home, "imitation", data={"corpus": "support", "version": 1}, base={"model": "scratch"})
    policy(home, "stranger", data={"corpus": "support", "version": 2}, base={"model": "scratch"})
    for key, actor in (("v1", "imitation@12"), ("v2", "stranger@34")):
        artifacts.write_json(home.trees / key / "stats.json", {"actor": actor})
        artifacts.write_json(home.pairs / key / artifacts.MANIFEST, {})
    artifacts.write_json(home.pairs / "v1-5e1f" / artifacts.MANIFEST, {})
    return home


def test_it_is_followed_to_the_last_child(family):
    assert {(m.kind, m.id, m.rows, m.through) for m in trace(family, [affected(1, trained=3)])} == {
        ("policy", "imitation", 3, "support@v1"),
        ("trees", "v1", 0, "policy imitation"),
        ("pairs", "v1", 0, "trees v1"),
        ("pairs", "v1-5e1f", 0, "trees v1"),
        ("policy", "a-control", 0, "trees v1"),
        ("policy", "dpo", 0, "pairs v1"),
        ("policy", "grandchild", 0, "policy dpo"),
    }


def test_rows_that_were_held_out_taught_nobody(family):
    assert trace(family, [affected(1, trained=0), affected(3, trained=5)]) == ()


def test_marks_of_several_erasures_stand_beside_each_other_each_once(family):
    found = trace(family, [affected(1, trained=3)])
    for id in ("two", "one", "two"):
        mark(family, erasure(id), found)
    assert marks(family.policies / "imitation") == [
        Mark(erasure=id, at=MONDAY, rows=3, through="support@v1") for id in ("one", "two")
    ]
    assert (
        str(marks(family.trees / "v1")[0]) == "came of rows erased since, on 2026-11-02, through policy imitation (one)"
    )
    assert marks(family.policies / "stranger") == []
