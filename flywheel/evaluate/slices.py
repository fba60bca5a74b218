"""Slices: parts of a suite, as SQL expressions over its rows; a policy must not lose one to win the rest."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from flywheel.evaluate.comparison import Cell, Comparison, compare, rate_where


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A named part of the tasks.

    `where` is a SQL expression over the result rows (`environment = 'desk'`, `turns > 3`, `task_group LIKE
    'desk/refund%'`). The tasks of a `guard` slice are chosen by what is known before play: environment, task_id
    and task_group alone.
    """

    name: str
    where: str
    guard: bool = False


class SliceRate(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's success on its own rows of a slice, with the 95 % Wilson interval."""

    slice: str
    policy: str
    temperature: float
    n: int
    success: float
    low: float
    high: float


def by_environment(results: pa.Table) -> list[Slice]:
    """A guard slice for each environment that occurs, by name."""
    names = sorted(results["environment"].unique().to_pylist())
    return [Slice(name=n, where="environment = '{}'".format(n.replace("'", "''")), guard=True) for n in names]


def rate_of(results: pa.Table, cell: Cell, part: Slice) -> SliceRate:
    """How a policy did on its own rows of a slice."""
    n, success, (low, high) = rate_where(results, cell, part.where)
    return SliceRate(
        slice=part.name, policy=cell.policy, temperature=cell.temperature, n=n, success=success, low=low, high=high
    )


def compare_on(results: pa.Table, first: Cell, second: Cell, parts: list[Slice]) -> list[Comparison]:
    """The first cell minus the second on each slice; the second's rows say which tasks are in it."""
    return [compare(results, first, second, where=p.where, name=p.name, before_play=p.guard) for p in parts]
