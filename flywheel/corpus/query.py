"""Queries: one SQL statement that reads the catalog's views, and can touch nothing outside the data folder."""

from __future__ import annotations

import re
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus import catalog, relations
from flywheel.corpus.catalog import Seen
from flywheel.curate import filter as filters
from flywheel.schema import FlywheelError
from flywheel.settings import Home

# A statement is parsed into nodes of these kinds where all of it reads.
READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
SPACE = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)"
EXPLAIN = re.compile(rf"{SPACE}*explain(?:{SPACE}+analyze\b)?(?:{SPACE}*\([\w\s,]*\)(?={SPACE}*\w))?", re.I | re.S)


class Answer(msgspec.Struct, frozen=True):
    """The names of the columns (each once), the rows, and whether there are more rows than were asked for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool

    def records(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long a statement may take, and how much memory, where it comes from elsewhere."""

    seconds: float = 30.0
    mebibytes: int = 1024


def query(
    home: Home, sql: str, limit: int | None = None, *, seen: Seen | None = None, bounds: Bounds | None = None
) -> Answer:
    """Run one statement that reads, over views of what lies in the folder now, and give at most `limit` rows.

    The files of what is captured and made can be read too, by `read_parquet` and its like; nothing else can (not keys,
    tokens and the audit log), and nothing is written. Where not everything is `seen`, views and files are those of what
    is. The catalog file has no part in it, so whoever has that open is not in the way.

    Raises:
        FlywheelError: when it is not one reading statement, takes more than its `bounds`, or names what is not there;
            the message lists the views and their columns.
    """
    with warehouse.connect(alone=True) as connection:
        catalog.create(connection, home, seen)
        places = _folders(home) if seen is None else seen.folders(home)
        readable = ", ".join(relations.text(f"{place}/") for place in places)
        connection.sql(f"SET allowed_directories = [{readable}]")
        if bounds is not None:
            connection.sql(f"SET memory_limit = '{bounds.mebibytes}MiB'")
            connection.sql("SET temp_directory = ''")
        connection.sql("SET enable_external_access = false")
        connection.sql("SET lock_configuration = true")
        timer = threading.Timer(bounds.seconds, connection.interrupt) if bounds is not None else None
        try:
            if timer is not None:
                timer.start()
            parsed = _check(connection, sql)
            if bounds is not None:
                _check_bounded(connection, parsed)
            found = connection.sql(sql)
            if limit is not None:
                found = found.limit(limit + 1)
            table = found.to_arrow_table()
        except duckdb.Error as error:
            if bounds is not None and isinstance(error, (duckdb.InterruptException, duckdb.OutOfMemoryException)):
                raise FlywheelError(
                    "the statement took too long, or too much memory; ask for less, or ask where the data folder is"
                ) from error
            raise FlywheelError(f"{error}\n\nThere are these views:\n{_described(connection)}") from error
        finally:
            if timer is not None:
                timer.cancel()
    return Answer(
        columns=_distinct(table.column_names),
        rows=list(zip(*(_plain(column) for column in table.slice(0, limit).columns), strict=True)),
        more=limit is not None and table.num_rows > limit,
    )


def _folders(home: Home) -> list[Path]:
    """The folders of what is captured and what is made of it."""
    made = [home.trees, home.pairs, home.policies, home.evaluations, home.suites, home.reports, home.registry]
    return [home.captures, home.outcomes, home.quarantine, home.corpora, home.derived, home.mapped, home.cycle, *made]


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """The nodes of a statement. Refuses all but one that reads, through and through: a part could write a file."""
    kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    if len(kinds) != 1:
        raise FlywheelError(f"write one statement; this is {len(kinds)}")
    asked = EXPLAIN.sub("", sql, count=1) if kinds[0] == duckdb.StatementType.EXPLAIN else sql
    [[text]] = connection.execute("SELECT json_serialize_sql($sql)", {"sql": asked}).fetchall()
    try:
        parsed = msgspec.json.decode(text)
    except RecursionError:
        raise FlywheelError("this statement is nested too deeply") from None
    nodes = [] if parsed["error"] else list(filters.nodes(parsed))
    kinds = {str(node.get("type")) for node in nodes}
    if len(parsed.get("statements", ())) != 1 or not {kind for kind in kinds if kind.endswith("_NODE")} <= READING:
        raise FlywheelError("a query reads: begin it with SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN")
    return nodes


def _check_bounded(connection: duckdb.DuckDBPyConnection, nodes: list[dict[str, Any]]) -> None:
    """Refuse what keeps to no bounds: DuckDB does not count all texts that it makes, nor stop within a function."""
    tables = {id(node["function"]) for node in nodes if node.get("type") == "TABLE_FUNCTION"}
    called = [node for node in nodes if node.get("class") == "FUNCTION" and id(node) not in tables]
    named = {str(node["function_name"]).lower() for node in called}
    asked = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar'"
    scalar = {name for (name,) in connection.sql(asked).fetchall()}
    if growing := sorted(named & scalar - filters.pure()):
        raise FlywheelError(f"the function {growing[0]} may not be used here; ask where the data folder is")
    if any(node.get("type") == "RECURSIVE_CTE_NODE" for node in nodes):
        raise FlywheelError("a statement may not be recursive here; ask where the data folder is")


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Values as JSON knows them: a sum of integers is a number, though SQL gives it 128 bits."""
    if not pa.types.is_decimal(column.type):
        return column.to_pylist()
    return [
        value if not isinstance(value, Decimal) else int(value) if value == int(value) else float(value)
        for value in column.to_pylist()
    ]


def _distinct(names: list[str]) -> list[str]:
    """Column names, each once: a repeated one gets a number."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return distinct


def _described(connection: duckdb.DuckDBPyConnection) -> str:
    """The views and their columns, one view a line."""
    rows = connection.sql(
        "SELECT table_name, string_agg(column_name, ', ' ORDER BY column_index) FROM duckdb_columns() "
        "WHERE NOT internal GROUP BY table_name ORDER BY table_name"
    ).fetchall()
    return "\n".join(f"  {name}: {columns}" for name, columns in rows)
