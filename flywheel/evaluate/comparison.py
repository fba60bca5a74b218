"""Success rates of policies, and differences between two of them on the same tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.evaluate.statistics import Interval, Paired, paired, wilson
from flywheel.schema import FlywheelError

# What is known of a task before anyone plays it.
TASK_COLUMNS = ("environment", "task_id", "task_group")


class Cell(NamedTuple):
    """A policy (as the results name it) at a temperature."""

    policy: str
    temperature: float = 0.0

    def __str__(self) -> str:
        return f"{self.policy} T={self.temperature:g}"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy did at a temperature: success with its 95 % Wilson interval, and means over its tasks.

    `credit` is partial credit in 0..1; `checked_first` a share of tasks, None where no environment tells.
    """

    policy: str
    temperature: float
    n: int
    success: float
    low: float
    high: float
    credit: float
    turns: float
    tokens: float
    tool_errors: float
    checked_first: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The first cell against the second on the tasks that `slice` selects (all of them by default)."""

    first: str
    first_temperature: float
    second: str
    second_temperature: float
    slice: str = "all"
    paired: Paired


def rates(results: pa.Table) -> list[Rate]:
    """One rate for each policy and temperature, in the order in which they first occur."""
    with _over(results) as connection:
        found = connection.sql(
            """
            SELECT policy, temperature, count(*), sum(success::INT)::BIGINT, avg(credit), avg(turns), avg(tokens),
                   avg(tool_errors), avg(checked_first::INT)
            FROM (SELECT *, row_number() OVER () AS place FROM results)
            GROUP BY policy, temperature ORDER BY min(place)
            """
        ).fetchall()
    return [
        Rate(
            policy=policy,
            temperature=temperature,
            n=n,
            success=won / n,
            **wilson(won, n)._asdict(),
            credit=credit,
            turns=turns,
            tokens=tokens,
            tool_errors=errors,
            checked_first=checked,
        )
        for policy, temperature, n, won, credit, turns, tokens, errors, checked in found
    ]


def rate_where(results: pa.Table, cell: Cell, where: str) -> tuple[int, float, Interval]:
    """Rows, success rate and its interval over a cell's own rows that a SQL expression selects."""
    with _over(results) as connection:
        n, won = _sql(
            connection,
            f"""
            SELECT count(*), coalesce(sum(success::INT), 0)::BIGINT FROM results
            WHERE policy = $policy AND temperature = $temperature AND ({where}
            )
            """,
            cell._asdict(),
        )[0]
    return n, won / n if n else 0.0, wilson(won, n)


def compare(
    results: pa.Table,
    first: Cell,
    second: Cell,
    *,
    where: str = "true",
    name: str = "all",
    before_play: bool = False,
) -> Comparison:
    """The first cell minus the second, over the tasks both played that a SQL expression selects.

    The expression reads the rows of the second cell, the reference: a slice is a set of tasks, the same for
    both. With `before_play` it may name only what is known of a task before it is played (`TASK_COLUMNS`), so
    that how the reference happened to do cannot choose the tasks.

    Raises:
        FlywheelError: when a cell has no rows, or a task twice, or the expression cannot be read.
    """
    known = ", ".join(TASK_COLUMNS) if before_play else "*"
    with _over(results) as connection:
        for cell in (first, second):
            _once_a_task(connection, cell)
        found = _sql(
            connection,
            f"""
            WITH one AS (SELECT * FROM results WHERE policy = $one AND temperature = $one_t),
                 two AS (SELECT * FROM results WHERE policy = $two AND temperature = $two_t),
                 chosen AS (SELECT environment, task_id FROM (SELECT {known} FROM two) WHERE ({where}
                 ))
            SELECT one.success, two.success, two.environment || chr(31) || two.task_group
            FROM one JOIN two USING (environment, task_id) JOIN chosen USING (environment, task_id)
            ORDER BY environment, task_id
            """,
            {"one": first.policy, "one_t": first.temperature, "two": second.policy, "two_t": second.temperature},
        )
    return Comparison(
        first=first.policy,
        first_temperature=first.temperature,
        second=second.policy,
        second_temperature=second.temperature,
        slice=name,
        paired=paired([r[0] for r in found], [r[1] for r in found], [r[2] for r in found]),
    )


@contextmanager
def _over(results: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees the results and nothing else: slices are written by people, in SQL."""
    with warehouse.connect(alone=True) as connection:
        connection.execute("SET python_enable_replacements = false")
        connection.register("results", results)
        connection.execute("SET enable_external_access = false")
        yield connection


def _sql(connection: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(query, parameters).fetchall()
    except duckdb.Error as error:
        raise FlywheelError(f"the slice cannot be read as a SQL expression over the results: {error}") from error


def _once_a_task(connection: duckdb.DuckDBPyConnection, cell: Cell) -> None:
    rows, tasks = connection.execute(
        "SELECT count(*), count(DISTINCT (environment, task_id)) FROM results WHERE policy = ? AND temperature = ?",
        [cell.policy, cell.temperature],
    ).fetchall()[0]
    if not rows:
        raise FlywheelError(f"the results hold no rows of {cell}; evaluate it on this suite first")
    if rows != tasks:
        raise FlywheelError(f"{cell} has {rows} rows for {tasks} tasks: a paired comparison needs one row a task")
