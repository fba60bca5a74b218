"""Caps on training rows."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.caps import capped
from flywheel.curate.spec import Caps
from flywheel.schema import FlywheelError

NAMES = ("trajectory_id", "task_id", "source", "agent", "agent_version", "split", "rank")


def table(*rows: tuple) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(NAMES, row, strict=True)) for row in rows])


ROWS = table(
    ("a", "t1", "web.jsonl", "bot", "2", "train", 4),
    ("b", "t1", "web.jsonl", "bot", "2", "train", 3),
    ("c", "t1", "web.jsonl", "bot", "1", "train", 2),
    ("d", "t2", "web.jsonl", "bot", "1", "train", 5),
    ("e", "t1", "app.jsonl", "bot", "", "heldout", 1),
)


def dropped(caps: Caps, rows: pa.Table = ROWS) -> dict[str, str]:
    return {row["trajectory_id"]: row["detail"] for row in capped(rows, caps).to_pylist()}


def test_the_best_stay():
    assert dropped(Caps(per_task=2)) == {"a": "2 of task t1 are kept"}
    assert dropped(Caps(per_task=1)) == {"a": "1 of task t1 is kept", "b": "1 of task t1 is kept"}
    assert dropped(Caps(per_agent_version=1)) == {"a": "1 of agent bot 2 is kept", "d": "1 of agent bot 1 is kept"}
    assert dropped(Caps()) == {}


def test_a_row_that_one_cap_drops_takes_no_place_in_the_next():
    """With the task's cap at 1 only c and d are left, and both fit into their source."""
    assert dropped(Caps(per_task=1, per_source=2)) == {"a": "1 of task t1 is kept", "b": "1 of task t1 is kept"}
    assert dropped(Caps(per_source=2)) == {"a": "2 of source web.jsonl are kept", "d": "2 of source web.jsonl are kept"}


def test_a_cap_of_nothing_is_refused():
    with pytest.raises(FlywheelError, match="keeps 1 row or more"):
        Caps(per_task=0)


cap = st.one_of(st.none(), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from("xyz")] * 4, st.sampled_from(["train", "heldout"])), max_size=25),
    st.randoms(),
    st.builds(Caps, per_task=cap, per_source=cap, per_agent_version=cap),
)
def test_every_cap_holds_whatever_the_order(rows, random, caps):
    ranked = [(str(rank), *row, rank) for rank, row in enumerate(rows)]
    ranked = ranked or [("0", "x", "x", "x", "x", "train", 0)]
    drops = dropped(caps, table(*ranked))
    random.shuffle(ranked)
    assert dropped(caps, table(*ranked)) == drops
    train = [row for row in ranked if row[5] == "train" and row[0] not in drops]
    for most, of in (
        (caps.per_task, slice(1, 2)),
        (caps.per_source, slice(2, 3)),
        (caps.per_agent_version, slice(3, 5)),
    ):
        groups = [row[of] for row in train]
        assert most is None or all(groups.count(group) <= most for group in groups)
    assert all(row[0] not in drops for row in ranked if row[5] == "heldout")
