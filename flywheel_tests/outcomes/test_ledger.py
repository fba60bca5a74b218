"""The ledger as it is read."""

import pyarrow as pa

from flywheel.outcomes.ledger import facts, step_rewards, touched
from flywheel.schema import OUTCOMES
from flywheel_tests.outcomes.stored import at, outcome, store, trajectory


def test_an_empty_ledger_has_its_columns(home):
    assert facts(home, "w").equals(OUTCOMES.empty_table())


def test_a_fact_told_twice_is_one_fact_with_its_first_arrival(home):
    store(home, outcome("a", "reward", 1.0, arrived_at=at(9)))
    store(home, outcome("a", "reward", 1.0, arrived_at=at(3)))
    assert facts(home, "w")["arrived_at"].to_pylist() == [at(3)]
    assert facts(home, "w", as_of=at(2)).num_rows == 0


def test_facts_of_one_trajectory_steps_included(home):
    store(home, outcome("a", "reward", 0.5, step_index=1), outcome("a", "reward", 1.0), outcome("b", "reward", 0.0))
    found = facts(home, "w", trajectory_id="a").to_pylist()
    assert [(fact["step_index"], fact["value"]) for fact in found] == [(None, 1.0), (1, 0.5)]


def test_rewards_of_steps_in_order(home):
    store(home, outcome("a", "judge", 0.5, step_index=3), outcome("a", "judge", 1.0, step_index=1))
    store(home, outcome("a", "judge", 0.0, hours=1, step_index=1), outcome("a", "cost", 2.0, step_index=1))
    store(home, outcome("a", "judge", 1.0), outcome("b", "judge", 1.0, step_index=0))
    rows = step_rewards(home, "w", at(1), only=pa.table({"trajectory_id": ["a"]})).to_pylist()
    assert [(s["step_index"], s["signal"], s["value"]) for row in rows for s in row["steps"]] == [
        (1, "cost", 2.0),
        (1, "judge", 0.0),
        (3, "judge", 0.5),
    ]
    assert step_rewards(home, "w", at(1))["trajectory_id"].to_pylist() == ["a", "b"]
    assert step_rewards(home, "nowhere", at(1)).num_rows == 0


def test_what_was_touched_in_an_interval(home):
    store(home, trajectory("a", hours=0), outcome("b", "reward", 1.0, hours=1), outcome("c", "reward", 1.0, hours=30))
    found = [touched(home, "w", at(a), at(b))["trajectory_id"].to_pylist() for a, b in ((-1, 1), (0, 1), (1, 30))]
    assert found == [["a", "b"], ["b"], ["c"]]
    assert touched(home, "w", at(90), at(99)).num_rows == 0


def test_what_was_touched_opens_the_files_of_its_days_alone(home):
    store(home, outcome("a", "reward", 1.0), outcome("b", "reward", 1.0, hours=24))
    for path in home.outcomes.glob("*/day=2026-03-01/*"):
        path.write_bytes(b"no table")
    assert touched(home, "w", at(13), at(24))["trajectory_id"].to_pylist() == ["b"]
