"""An opened version: its rows by condition, their steps with and without text, whole rows in any order."""

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.capture.erasing.traces import Asked
from flywheel.corpus import store
from flywheel.corpus.manifest import manifest
from flywheel.corpus.opened import Opened
from flywheel.corpus.selection import selected
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.packed import unpacked
from flywheel.curate.prepared import MARKS
from flywheel.schema import STEP, FlywheelError
from flywheel_tests.corpus.conftest import SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write
from flywheel_tests.corpus.test_forget import erase


def opened(home, split=None):
    return Opened(home, manifest(home, "support"), split)


@pytest.fixture
def version(week):
    """Ten of twelve episodes: 3 and 7 failed."""
    snapshot(week, "support", SPEC, TUESDAY)
    return opened(week)


def some(version, *numbers):
    return pl.DataFrame({"trajectory_id": [f"t{n:03}" for n in numbers]}, {"trajectory_id": pl.String})


def test_rows_by_condition(version):
    assert version.where("true")["trajectory_id"].to_list() == [f"t{n:03}" for n in range(12) if n not in (3, 7)]
    found = version.where("success AND task_type = 'desk' AND trajectory_id < 't005'")
    assert found.select("trajectory_id", "reward", "n_steps", "task_id").rows() == [
        ("t000", 1.0, 5, "task-0"),
        ("t001", 1.0, 5, "task-1"),
        ("t002", 1.0, 5, "task-2"),
        ("t004", 1.0, 5, "task-4"),
    ]
    assert version.where("n_steps > 5").is_empty()
    assert version.where("reward > 0").equals(version.where("true"))


@pytest.mark.parametrize("condition", ["rewrad > 0", "1", "read_text('/etc/passwd') = ''", "true FROM candidates"])
def test_a_condition_can_do_nothing_else(version, condition):
    with pytest.raises(FlywheelError, match="filter"):
        version.where(condition)
    assert len(version.where("success")) == 10


def test_steps_without_what_was_said(version):
    rows = version.where("trajectory_id = 't004'").select("trajectory_id", "reward")
    steps = version.steps(rows, ["role", "tool_name", "is_error"])
    assert steps.columns == ["trajectory_id", "reward", "step_index", "role", "tool_name", "is_error"]
    assert steps.rows() == [
        ("t004", 1.0, 0, "system", None, None),
        ("t004", 1.0, 1, "user", None, None),
        ("t004", 1.0, 2, "assistant", None, None),
        ("t004", 1.0, 3, "tool", "look_up", False),
        ("t004", 1.0, 4, "assistant", None, None),
    ]
    assert version.steps(rows).columns == ["trajectory_id", "reward", "step_index", *MARKS]


def test_steps_stand_in_the_order_of_the_rows(version):
    steps = version.steps(some(version, 9, 0, 9), ["content", "role"])
    assert steps.filter(pl.col("role") == "user").rows() == [
        ("t009", 1, "My address 9 please.", "user"),
        ("t000", 1, "My refund 0 please.", "user"),
        ("t009", 1, "My address 9 please.", "user"),
    ]
    assert steps["step_index"].to_list() == [0, 1, 2, 3, 4] * 3


def test_no_rows_have_no_steps(version):
    none = version.where("false")
    for columns in (["role"], ["content"], ["role", "content"], []):
        assert version.steps(some(version), columns).columns == ["trajectory_id", "step_index", *columns]
        assert version.steps(none, columns).is_empty()
    assert version.steps(some(version, 1), []).rows() == [("t001", n) for n in range(5)]
    assert version.take(none).equals(store.ROWS.empty_table())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_equal_to_what_is_stored(version, week, data):
    stored = store.rows(week, "support")
    order = data.draw(st.lists(st.integers(0, stored.num_rows - 1), max_size=20))
    columns = data.draw(st.lists(st.sampled_from(STEP.names), unique=True))
    rows, expected = version.rows[order], stored.take(pa.array(order, pa.int64()))
    assert version.take(rows).equals(expected)
    assert unpacked(version.packed(rows)).equals(expected["steps"].combine_chunks())
    steps = version.steps(rows.select("trajectory_id"), columns)
    assert steps.rows(named=True) == [
        {"trajectory_id": row["id"], "step_index": number} | {name: step[name] for name in columns}
        for row in expected.to_pylist()
        for number, step in enumerate(row["steps"])
    ]


@pytest.mark.parametrize("where", ["true", "n_steps = 5", "Reward > 0 AND task_id LIKE '%1'", "trajectory_id > 't005'"])
def test_equal_to_what_is_selected(version, week, where):
    for split in ("train", "heldout"):
        chosen = selected(week, manifest(week, "support"), split, where)
        assert opened(week, split).where(where)["trajectory_id"].to_list() == chosen["trajectory_id"].to_pylist()
        assert chosen.schema.equals(selected(week, manifest(week, "support")).schema)


def test_rows_that_are_not_there(version):
    with pytest.raises(FlywheelError, match=r"trajectory 't003' is not among the rows that are open"):
        version.take(some(version, 1, 3))
    with pytest.raises(FlywheelError, match="steps have no column 'reward'; they have: role, content"):
        version.steps(version.rows, ["reward"])
    with pytest.raises(FlywheelError, match="corpus rows have no column 'said'"):
        version.take(version.rows, ["said"])


def test_an_old_version_stays_what_it_was(version, week):
    before = version.steps(version.rows, STEP.names)
    late = msgspec.structs.replace(trajectory(12), arrived_at=TUESDAY)
    write(week, [late], [verdict(12, 1.0, arrived_at=TUESDAY), verdict(0, 0.0, "reopened", TUESDAY)])
    snapshot(week, "support", SPEC, WEDNESDAY)
    assert version.steps(version.rows, STEP.names).equals(before)
    again = Opened(week, manifest(week, "support", 1))
    assert again.rows.equals(version.rows)
    assert opened(week).where("trajectory_id = 't012'")["n_steps"].to_list() == [5]


def test_an_empty_version(home):
    write(home)
    snapshot(home, "support", SPEC, TUESDAY)
    nothing = opened(home)
    assert nothing.where("success").is_empty()
    assert nothing.steps(nothing.rows, ["role", "content"]).is_empty()
    with pytest.raises(FlywheelError, match="is not among"):
        nothing.take(some(nothing, 1))


def test_who_was_forgotten_is_not_in_it(version, week):
    erase(week, Asked(trajectories=("t004",)))
    left = opened(week)
    assert left.rows["trajectory_id"].to_list() == [f"t{n:03}" for n in range(12) if n not in (3, 4, 7)]
    assert left.steps(left.rows, ["content"])["trajectory_id"].n_unique() == 9
