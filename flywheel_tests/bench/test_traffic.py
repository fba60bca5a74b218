"""The generator: the same on every machine, true to the schema, and honest about what it planted."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from bench import traffic
from bench.language import Language, drawn
from flywheel import warehouse
from flywheel.outcomes.join import joined
from flywheel.schema import OUTCOMES, TRAJECTORIES, Outcome, content_digest, trajectory_of
from flywheel.settings import Home

N = 600


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("traffic"))
    traffic.fill(home, N, seed=3)
    return home


def captures(home: Home) -> list[dict]:
    return warehouse.read(home.captures, TRAJECTORIES).to_pylist()


def test_every_row_is_a_record_with_its_digest(home: Home) -> None:
    rows = captures(home)
    assert len(rows) == len({row["id"] for row in rows}) == N
    for row in rows:
        assert content_digest(trajectory_of(row)) == row["content_digest"]
        assert row["n_steps"] == len(row["steps"])


def test_conversations_hang_together(home: Home) -> None:
    for row in captures(home):
        waiting: list[str] = []
        for step in row["steps"]:
            if step["role"] == "tool":
                assert step["tool_call_id"] == waiting.pop(0)
                assert json.loads(step["content"])["status"] == "ok"
            assert all(json.loads(call["arguments"]).keys() == {"id", "note"} for call in step["tool_calls"])
            waiting += [call["id"] for call in step["tool_calls"]]
        assert not waiting


def test_outcomes_have_the_ids_of_their_content(home: Home) -> None:
    rows = warehouse.read(home.outcomes, OUTCOMES).to_pylist()
    assert 2.7 * N < len(rows) < 3.3 * N
    for row in rows:
        assert msgspec.convert({name: row[name] for name in Outcome.__struct_fields__}, Outcome).id == row["id"]


def test_nothing_is_pending_once_settled(home: Home) -> None:
    verdicts = joined(home, traffic.WORKSPACE, traffic.POLICY, traffic.settled())
    states = {pair["values"]: pair["counts"] for pair in verdicts["state"].value_counts().to_pylist()}
    assert sum(states.values()) == N
    assert states.keys() == {"resolved", "expired", "conflicting"}
    assert states["resolved"] > 0.9 * N


def test_planted_copies_are_what_they_are_said_to_be(home: Home) -> None:
    rows = {row["id"]: row for row in captures(home)}
    planted = pl.read_parquet(home.root / "planted.parquet")
    assert set(planted["kind"]) == {"exact", "prefix", "near", "effects"}
    assert planted["id"].is_unique().all()
    assert not set(planted["id"]) & set(planted["original"])
    for copy, original, kind, jaccard in planted.iter_rows():
        a, b = rows[copy], rows[original]
        assert a["task_id"] == b["task_id"]
        assert (a["content_digest"] == b["content_digest"]) == (kind == "exact")
        if kind == "prefix":
            said = [[{**step, "at": None} for step in row["steps"]] for row in (a, b)]
            assert said[0] == said[1][: len(said[0])]
            assert len(said[0]) < len(said[1])
        if kind == "near":
            assert 0.55 < jaccard < 0.99
        if kind == "effects":
            assert [c for s in a["steps"] for c in s["tool_calls"]] == [c for s in b["steps"] for c in s["tool_calls"]]
            assert jaccard < 0.9


def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    names = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        home = Home(tmp_path / folder)
        traffic.fill(home, 60, seed=seed, days=2)
        names.append([path.relative_to(home.root) for path in sorted(home.root.rglob("day=*/*.parquet"))])
    assert names[0] == names[1] != names[2]


def test_late_outcomes_touch_the_fraction_that_was_asked_for(tmp_path: Path) -> None:
    home = Home(tmp_path)
    traffic.fill(home, 100, seed=1, days=2)
    before = joined(home, traffic.WORKSPACE, traffic.POLICY, traffic.settled(2))
    assert traffic.late(home, 100, 0.05, seed=1, days=2) == 5
    assert before.equals(joined(home, traffic.WORKSPACE, traffic.POLICY, traffic.settled(2)))
    after = joined(home, traffic.WORKSPACE, traffic.POLICY, traffic.later(2))
    assert (
        1 <= sum(a != b for a, b in zip(before["signals"].to_pylist(), after["signals"].to_pylist(), strict=True)) <= 5
    )


def test_a_text_depends_on_its_key_alone() -> None:
    language = Language(0, ["Hello. ", '{"id":"'])
    keys = drawn(np.array([7], np.uint64), np.arange(4))
    lengths = np.array([5, 0, 40, 3])
    texts = language.texts(keys, lengths, opening=np.array([-1, 0, 0, 1]), record=np.array([False, False, False, True]))
    assert texts[1].as_py() == "Hello. "
    assert texts[2].as_py().startswith("Hello. ")
    assert len(texts[2].as_py().split()) == 41
    assert json.loads(texts[3].as_py()).keys() == {"id", "note"}
    assert language.texts(keys[2:3], lengths[2:3], opening=np.array([0])) == pa.array([texts[2].as_py()])
