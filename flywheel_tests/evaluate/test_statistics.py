"""Intervals and tests against published values, and properties that hold for any data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.evaluate.statistics import Interval, clustered, mcnemar, newcombe, paired, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17, 857-872, 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_newcombe_gives_the_known_interval():
    # Airway responsiveness of 21 children before and after: 1 both, 1 and 7 one only, 12 neither.
    assert newcombe(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(0, 0) == 1.0


def test_clustering_counts_groups_rather_than_tasks():
    # Ten groups of ten equal tasks know as much as ten tasks do.
    differences = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    alone = clustered(differences, range(10))
    repeated = clustered([d for d in differences for _ in range(10)], [g for g in range(10) for _ in range(10)])
    assert repeated == pytest.approx(alone)
    # The mean of ten values with its t interval: standard error .1633, t quantile 2.262.
    assert alone == pytest.approx((0.4 - 2.262 * 0.1633, 0.4 + 2.262 * 0.1633), abs=1e-3)


def test_one_group_says_nothing_about_others():
    assert clustered([1.0, 1.0], ["a", "a"]) == (-1.0, 1.0)


def test_the_interval_that_decides_is_the_wider():
    # All the gain is in one of five templates: sure of these tasks, not sure of other templates.
    first, second = [True] * 20 + [False] * 80, [False] * 100
    found = paired(first, second, [i // 20 for i in range(100)])
    assert (found.n, found.groups, found.wins, found.losses, found.difference) == (100, 5, 20, 0, 0.2)
    assert found.by_task.low > 0 > found.by_group.low
    assert (found.low, found.high) == (found.by_group.low, found.by_group.high)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="differ in length"):
        paired([True], [True, False], ["a"])


table = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=80)


@given(table)
def test_a_paired_difference_lies_in_its_intervals_and_turns_over_with_its_sign(rows: list[tuple[bool, bool, int]]):
    first, second, groups = (list(column) for column in zip(*rows, strict=True))
    there, back = paired(first, second, groups), paired(second, first, groups)
    for interval in (there.by_task, there.by_group, Interval(there.low, there.high)):
        assert -1 <= interval.low <= there.difference + 1e-12
        assert there.difference - 1e-12 <= interval.high <= 1
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p == there.p


@given(table, st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter(rows: list[tuple[bool, bool, int]], rng):
    shuffled = rng.sample(rows, len(rows))
    one, two = (paired(*(list(c) for c in zip(*r, strict=True))) for r in (rows, shuffled))
    assert one.by_task == two.by_task
    assert one.by_group == pytest.approx(two.by_group)


def test_the_deciding_interval_covers_the_truth():
    # 30 templates whose tasks rise and fall together; true difference .1. Fixed seed: a figure, not a gamble.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        level = np.clip(rng.normal(0.5, 0.2, 30), 0, 0.9)[:, None]
        first, second = rng.random((30, 10)) < level + 0.1, rng.random((30, 10)) < level
        groups = np.repeat(np.arange(30), 10).tolist()
        found = paired(first.ravel().tolist(), second.ravel().tolist(), groups)
        covered += found.low <= 0.1 <= found.high
    assert covered / 300 >= 0.93
