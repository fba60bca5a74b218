"""The ledger as it is read."""

from flywheel.outcomes.ledger import facts
from flywheel.schema import OUTCOMES
from flywheel_tests.outcomes.stored import at, outcome, store


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
