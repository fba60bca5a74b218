"""Drift: how far the rows of one version lie from those of another, attribute by attribute."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import polars as pl

# Compared as distributions of numbers, and as shares of kinds. A source is compared by its form, its digits masked:
# every day and every file has a name of its own.
NUMBERS = ("reward", "n_steps", "words", "calls")
KINDS = ("tools_called", "task_type", "end_state", "agent", "source", "instructions")

# Categories that are named in a finding.
NAMED = 5


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute compared: an effect size, how likely one as large is by chance, and what it was and is.

    The effect on numbers is the Kolmogorov-Smirnov distance, the largest gap between the two distribution
    functions; on kinds the Jensen-Shannon divergence in bits (Lin 1991). Both are 0 for equal distributions and 1
    for disjoint ones. `p` is that of the two-sample Kolmogorov-Smirnov test, or of a G-test of homogeneity.
    """

    attribute: str
    measure: Literal["Kolmogorov-Smirnov", "Jensen-Shannon"]
    effect: float
    p: float
    before: dict[str, float]
    now: dict[str, float]


def shifts(before: pl.DataFrame, now: pl.DataFrame) -> list[Shift]:
    """Every attribute of `NUMBERS` and `KINDS` compared, in that order; empty where a side has no rows.

    Frames have those columns and agent_version. Versions mostly share rows, so samples are more alike than two
    independent ones would be, and the p of a change is rather too large than too small.
    """
    if not len(before) or not len(now):
        return []
    return [
        *(_numbers(name, before[name], now[name]) for name in NUMBERS),
        *(_kinds(name, _counted(before, name), _counted(now, name)) for name in KINDS),
    ]


def _numbers(name: str, before: pl.Series, now: pl.Series) -> Shift:
    from scipy import stats

    one, other = (side.drop_nulls().cast(pl.Float64).to_numpy() for side in (before, now))
    if not len(one) or not len(other):
        effect, p = 0.0, 1.0
    else:
        found: Any = stats.ks_2samp(one, other, method="asymp")
        effect, p = float(found.statistic), float(found.pvalue)
    return Shift(
        attribute=name,
        measure="Kolmogorov-Smirnov",
        effect=round(effect, 4),
        p=p,
        before=_summary(one),
        now=_summary(other),
    )


def _summary(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    told = {"mean": values.mean(), "standard deviation": values.std(), "p10": low, "median": middle, "p90": high}
    return {name: round(float(value), 4) for name, value in told.items()}


def _counted(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """How often each kind occurs: columns kind and count. A row that used several tools counts for each of them."""
    if name == "tools_called":
        kinds = rows.select(kind=pl.col(name)).explode("kind", empty_as_null=True, keep_nulls=True)
    elif name == "agent":
        kinds = rows.select(kind=pl.concat_str("agent", "agent_version", separator=" ", ignore_nulls=True))
    elif name == "source":
        kinds = rows.select(kind=family(pl.col("source")))
    else:
        kinds = rows.select(kind=pl.col(name))
    return kinds.with_columns(pl.col("kind").fill_null("(none)")).group_by("kind").len("count")


def family(source: pl.Expr) -> pl.Expr:
    """The form of a source's name: `week/2026-11-02` and `week/2026-11-03` are one family."""
    return source.str.replace_all(r"\d+", "#")


def _kinds(name: str, before: pl.DataFrame, now: pl.DataFrame) -> Shift:
    both = before.join(now, on="kind", how="full", suffix="_now", coalesce=True).fill_null(0).sort("kind")
    table = both.select("count", "count_now").to_numpy().T.astype(float)
    shares = table / table.sum(axis=1, keepdims=True)
    moved = np.lexsort((np.arange(len(both)), -np.abs(shares[1] - shares[0])))[:NAMED]
    kinds = both["kind"].to_list()
    return Shift(
        attribute=name,
        measure="Jensen-Shannon",
        effect=round(divergence(shares[0], shares[1]), 4),
        p=_homogeneity(table),
        before={kinds[i]: round(float(shares[0, i]), 4) for i in moved},
        now={kinds[i]: round(float(shares[1, i]), 4) for i in moved},
    )


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two distributions in bits: 0 for equal ones, 1 for disjoint ones."""
    from scipy.spatial import distance

    # Equal distributions may come out as the root of a number just below zero.
    return float(np.nan_to_num(distance.jensenshannon(one, other, base=2))) ** 2


def _homogeneity(table: np.ndarray) -> float:
    """The p of a G-test; kinds of which fewer than five would be expected on a side are counted as one."""
    from scipy import stats

    expected = table.sum(axis=0) * (table.sum(axis=1).min() / table.sum())
    rare = expected < 5
    merged = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    merged = merged[:, merged.sum(axis=0) > 0]
    if merged.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(merged, correction=False, lambda_="log-likelihood").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
