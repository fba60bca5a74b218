"""Rates and paired comparisons from literal rows, and slices as SQL."""

import pyarrow as pa
import pytest

from flywheel.evaluate.comparison import Cell, compare, rates
from flywheel.evaluate.slices import Slice, by_environment, compare_on, rate_of
from flywheel.schema import FlywheelError
from flywheel_tests.evaluate.toy import rows

RESULTS = pa.concat_tables(
    [
        rows("a", [True, True, True, False]),
        rows("b", [True, False, False, False]),
        rows("a", [False, True], environment="other"),
        rows("b", [True, True], environment="other"),
    ]
)


def test_rates_by_policy_and_temperature():
    found = rates(pa.concat_tables([RESULTS, rows("b", [True], temperature=1.0)]))
    assert [(r.policy, r.temperature, r.n, r.success) for r in found] == [
        ("a", 0.0, 6, 4 / 6),
        ("b", 0.0, 6, 3 / 6),
        ("b", 1.0, 1, 1.0),
    ]
    assert found[0].low < 4 / 6 < found[0].high
    assert (found[0].credit, found[0].tokens, found[0].checked_first) == (4 / 6, 10, None)


def test_a_comparison_pairs_the_same_tasks_whatever_the_order_of_rows():
    found = compare(RESULTS.take(pa.array([11, 3, 5, 0, 7, 2, 9, 1, 10, 4, 8, 6])), Cell("a"), Cell("b")).paired
    assert (found.n, found.groups, found.wins, found.losses) == (6, 6, 2, 1)
    assert found.difference == pytest.approx(1 / 6)
    assert found.p == 1.0


def test_a_slice_is_a_sql_expression():
    assert compare(RESULTS, Cell("a"), Cell("b"), where="environment = 'toy'").paired.difference == 0.5
    # Turns are 2, 3, 4, 2, ...: the rows of the second cell choose the tasks.
    assert compare(RESULTS, Cell("a"), Cell("b"), where="turns > 3").paired.n == 1
    assert compare(RESULTS, Cell("a"), Cell("b"), where="task_group LIKE 'other/%' -- or else").paired.n == 2


def test_slices_by_environment_guard():
    parts = by_environment(RESULTS)
    assert parts == [
        Slice(name="other", where="environment = 'other'", guard=True),
        Slice(name="toy", where="environment = 'toy'", guard=True),
    ]
    assert [(c.slice, c.paired.difference) for c in compare_on(RESULTS, Cell("a"), Cell("b"), parts)] == [
        ("other", -0.5),
        ("toy", 0.5),
    ]
    assert (rate_of(RESULTS, Cell("a"), parts[1]).n, rate_of(RESULTS, Cell("a"), parts[1]).success) == (4, 0.75)


def test_a_guard_slice_cannot_be_chosen_by_how_the_reference_did():
    with pytest.raises(FlywheelError, match="turns"):
        compare_on(RESULTS, Cell("a"), Cell("b"), [Slice(name="long", where="turns > 3", guard=True)])


@pytest.mark.parametrize("where", ["no_such_column > 1", "environment =", "(SELECT count(*) FROM '/etc/passwd') > 0"])
def test_a_slice_that_cannot_be_read_is_said_to_be_so(where: str):
    with pytest.raises(FlywheelError, match="cannot be read as a SQL expression"):
        compare(RESULTS, Cell("a"), Cell("b"), where=where)


def test_a_missing_policy_and_a_task_played_twice_are_refused():
    with pytest.raises(FlywheelError, match=r"no rows of c T=0"):
        compare(RESULTS, Cell("a"), Cell("c"))
    with pytest.raises(FlywheelError, match="one row a task"):
        compare(pa.concat_tables([RESULTS, rows("b", [True])]), Cell("a"), Cell("b"))
