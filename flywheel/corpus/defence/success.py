"""Success that was too easy: rows that succeeded with less, or far more often, than others of their kind do."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl

# A kind of task is done with tools when so many of its successes used one, in so many rows at least.
USUAL = 0.95
ENOUGH = 20


class Easier(msgspec.Struct, frozen=True, kw_only=True):
    """A way of working that succeeds far more often than it did: its task type, its tools, and both rates.

    `chance` is that of as many successes or more at the old rate, over all ways together; the old rate is drawn
    towards that of the task type by one row.
    """

    task_type: str
    tools: tuple[str, ...]
    rows: int
    succeeded: int
    rate: float
    usual: float
    chance: float
    trajectory_ids: tuple[str, ...]


def effortless(rows: pl.DataFrame, reference: pl.DataFrame) -> list[str]:
    """Ids of rows that succeeded without calling a tool, in kinds of task that are done with tools; in order.

    Frames have id, task_type, success, calls and tools_offered; the reference says how a kind is done. A kind is done
    with tools if 95 % of its successes, and twenty of them at least, used one. Where calling nothing often is right
    (refusals, questions), nothing is found.
    """
    done = reference.filter(pl.col("success") & pl.col("tools_offered")).group_by("task_type")
    usual = done.agg(with_tools=(pl.col("calls") > 0).mean(), rows=pl.len()).filter(
        (pl.col("with_tools") >= USUAL) & (pl.col("rows") >= ENOUGH)
    )
    found = rows.filter(pl.col("success") & pl.col("tools_offered") & (pl.col("calls") == 0))
    return found.join(usual, on="task_type", how="semi")["id"].sort().to_list()


def easier(came: pl.DataFrame, before: pl.DataFrame, *, gain: float, chance: float) -> list[Easier]:
    """Ways of working whose rate of success rose by `gain` or more, as `chance` would hardly have it.

    Frames are candidates with a verdict (id, task_type, success, tools_called), failures included: those that came in,
    and those of the parent. A way of working is a task type and the set of tools that were called. Task types that
    the parent does not know cannot be judged.
    """
    from scipy import stats

    way = pl.col("tools_called").list.join("\x1f").alias("way")
    old = before.select("task_type", "success", way)
    kinds = old.group_by("task_type").agg(kind=pl.col("success").mean())
    ways = old.group_by("task_type", "way").agg(tried=pl.len(), won=pl.col("success").sum())
    now = (
        came.select("id", "task_type", "success", way)
        .group_by("task_type", "way")
        .agg(rows=pl.len(), succeeded=pl.col("success").sum(), ids=pl.col("id").filter(pl.col("success")).sort())
        .join(kinds, on="task_type")
        .join(ways, on=["task_type", "way"], how="left")
        .with_columns(pl.col("tried", "won").fill_null(0))
        .with_columns(
            usual=(pl.col("won") + pl.col("kind")) / (pl.col("tried") + 1), rate=pl.col("succeeded") / pl.col("rows")
        )
        .sort("task_type", "way")
    )
    if not len(now):
        return []
    # The old rate is itself known from so many rows only: both samples are doubted.
    p: Any = stats.betabinom.sf(
        now["succeeded"].to_numpy() - 1,
        now["rows"].to_numpy(),
        now["won"].to_numpy() + now["kind"].to_numpy() + 1e-9,
        np.maximum(now["tried"].to_numpy() - now["won"].to_numpy(), 0) + 1 - now["kind"].to_numpy() + 1e-9,
    )
    now = now.with_columns(chance=pl.Series(np.minimum(np.nan_to_num(p, nan=1.0) * len(now), 1.0)))
    found = now.filter((pl.col("rate") - pl.col("usual") >= gain) & (pl.col("chance") < chance))
    return [
        Easier(
            task_type=row["task_type"],
            tools=tuple(filter(None, row["way"].split("\x1f"))),
            rows=row["rows"],
            succeeded=row["succeeded"],
            rate=round(row["rate"], 4),
            usual=round(row["usual"], 4),
            chance=row["chance"],
            trajectory_ids=tuple(row["ids"]),
        )
        for row in found.sort("chance", "task_type", "way").iter_rows(named=True)
    ]
