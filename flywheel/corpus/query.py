"""Queries: one SQL statement that reads the catalog's views, and can touch nothing outside the data folder."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus import catalog, relations
from flywheel.corpus.catalog import Seen
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class Answer(msgspec.Struct, frozen=True):
    """The names of the columns (each once), the rows, and whether there are more rows than were asked for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool

    def records(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(home: Home, sql: str, limit: int | None = None, *, seen: Seen | None = None) -> Answer:
    """Run one statement that reads, over views of what lies in the folder now, and give at most `limit` rows.

    Files of the data folder can be read too, by `read_parquet` and its like; nothing else can, and nothing is
    written. Where not everything is `seen`, views and files are those of what is. The catalog file has no part in it,
    so whoever has that open is not in the way.

    Raises:
        FlywheelError: when it is not one reading statement, or names what is not there; the message lists the
            views and their columns.
    """
    with warehouse.connect(alone=True) as connection:
        catalog.create(connection, home, seen)
        places = sorted({home.root, home.data}, key=str) if seen is None else seen.folders(home)
        readable = ", ".join(relations.text(f"{place}/") for place in places)
        connection.sql(f"SET allowed_directories = [{readable}]")
        connection.sql("SET enable_external_access = false")
        connection.sql("SET lock_configuration = true")
        try:
            _check(sql)
            found = connection.sql(sql)
            if limit is not None:
                found = found.limit(limit + 1)
            table = found.to_arrow_table()
        except duckdb.Error as error:
            raise FlywheelError(f"{error}\n\nThere are these views:\n{_described(connection)}") from error
    return Answer(
        columns=_distinct(table.column_names),
        rows=list(zip(*(_plain(column) for column in table.slice(0, limit).columns), strict=True)),
        more=limit is not None and table.num_rows > limit,
    )


def _check(sql: str) -> None:
    """Refuse all but one statement that reads."""
    reads = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
    kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    if len(kinds) != 1:
        raise FlywheelError(f"write one statement; this is {len(kinds)}")
    if kinds[0] not in reads:
        raise FlywheelError("a query reads: begin it with SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN")


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
