"""Intervals and tests for success rates, alone and paired on the same tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The two ends of an interval."""

    low: float
    high: float


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """The first policy's success rate minus the second's, over the same tasks, with 95 % intervals.

    `by_task` answers for fresh tasks of the same templates (each task counts as independent); `by_group` for
    fresh templates (tasks of one group may rise and fall together). `low` and `high` are the hull of both, and
    that is the interval that decides: a gain has to stand against either doubt. `p` is McNemar's exact test.
    """

    n: int
    groups: int
    first: float
    second: float
    wins: int
    losses: int
    difference: float
    by_task: Interval
    by_group: Interval
    low: float
    high: float
    p: float


def _quantile() -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.5 + CONFIDENCE / 2))


def wilson(successes: int, n: int) -> Interval:
    """Wilson's 95 % score interval of a rate; (0, 1) when nothing was tried.

    Source: Wilson 1927, recommended for any n by Brown, Cai and DasGupta, Statistical Science 16(2), 2001.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z = _quantile()
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula is exact; rounding must not move it past them.
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return Interval(low, high)


def newcombe(both: int, first_only: int, second_only: int, neither: int) -> Interval:
    """Newcombe's 95 % interval of the difference of two rates over the same tasks.

    Wilson intervals of the two rates, joined with their correlation (continuity-corrected): method 10 of
    Newcombe, Statistics in Medicine 17, 2635-2650, 1998.
    """
    n = both + first_only + second_only + neither
    if n == 0:
        return Interval(-1.0, 1.0)
    one, two = (both + first_only) / n, (both + second_only) / n
    low_one, high_one = wilson(both + first_only, n)
    low_two, high_two = wilson(both + second_only, n)
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    covariance = both * neither - first_only * second_only
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    phi = covariance / math.sqrt(margins) if margins else 0.0

    def spread(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    return Interval(
        max(-1.0, one - two - spread(one - low_one, high_two - two)),
        min(1.0, one - two + spread(high_one - one, two - low_two)),
    )


def clustered(differences: Sequence[float], groups: Sequence[Any]) -> Interval:
    """A 95 % interval of the mean of paired differences whose groups are the independent units.

    Cluster-robust standard error with t quantiles of (groups - 1) degrees of freedom; (-1, 1) with fewer than
    two groups, for then nothing is known about others. Sources: Miller, "Adding Error Bars to Evals",
    arXiv 2411.00640, section 2.2; Cameron and Miller, Journal of Human Resources 50(2), 2015.
    """
    from scipy.stats import t

    values = np.asarray(differences, dtype=float)
    labels, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    count = len(labels)
    if count < 2:
        return Interval(-1.0, 1.0)
    mean = float(values.mean())
    sums = np.bincount(index, weights=values - mean, minlength=count)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)
    reach = float(t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
    return Interval(max(-1.0, mean - reach), min(1.0, mean + reach))


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p of as lopsided a split of the tasks on which two policies differ; 1 when none does.

    Source: McNemar 1947, in its exact binomial form.
    """
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def paired(first: Sequence[bool], second: Sequence[bool], groups: Sequence[Any]) -> Paired:
    """Compare two policies on the same tasks; the three sequences are in one order of tasks.

    Raises:
        ValueError: when their lengths differ.
    """
    if not len(first) == len(second) == len(groups):
        raise ValueError(f"paired values differ in length: {len(first)}, {len(second)}, {len(groups)} groups")
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = len(one)
    wins, losses = int((one & ~two).sum()), int((~one & two).sum())
    both = int((one & two).sum())
    by_task = newcombe(both, wins, losses, n - both - wins - losses)
    by_group = clustered((one.astype(float) - two).tolist(), groups) if n else Interval(-1.0, 1.0)
    return Paired(
        n=n,
        groups=len(set(groups)),
        first=float(one.mean()) if n else 0.0,
        second=float(two.mean()) if n else 0.0,
        wins=wins,
        losses=losses,
        difference=(wins - losses) / n if n else 0.0,
        by_task=by_task,
        by_group=by_group,
        low=min(by_task.low, by_group.low),
        high=max(by_task.high, by_group.high),
        p=mcnemar(wins, losses),
    )
