"""Tables: immutable Parquet files in partitions by workspace and arrival day, and SQL over them."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel import artifacts, settings

CONTENT_NAME = re.compile(r"[0-9a-f]{24}")


def partition(root: Path, workspace: str, day: date) -> Path:
    """The folder of one workspace's rows that arrived on one day."""
    return root / f"workspace={workspace}" / f"day={day.isoformat()}"


def append(root: Path, table: pa.Table) -> list[Path]:
    """Append rows, each to the partition of its `workspace` and `arrived_at` day, one new file a partition.

    A file is named by its content, so the same rows written twice are one file. Writers never meet: there
    is no lock, and a file appears whole or not at all.
    """
    keyed = table.append_column("day", table["arrived_at"].cast(pa.date32()))
    distinct = keyed.group_by(["workspace", "day"]).aggregate([]).to_pylist()
    written: list[Path] = []
    for workspace, day in sorted((row["workspace"], row["day"]) for row in distinct):
        rows = keyed.filter((pc.field("workspace") == workspace) & (pc.field("day") == day)).drop_columns(["day"])
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        path = partition(root, workspace, day) / f"{hashlib.sha256(data).hexdigest()[:24]}.parquet"
        if not path.exists():
            artifacts.write_bytes(path, data)
        written.append(path)
    return written


def named_digest(path: Path) -> str | None:
    """The digest that a table's file bears as its name: the beginning of its SHA-256; None where it bears another."""
    return path.stem if CONTENT_NAME.fullmatch(path.stem) else None


def files(root: Path, workspace: str | None = None, day: date | None = None) -> list[Path]:
    """The Parquet files of a table, in name order."""
    folder = f"workspace={workspace}" if workspace else "workspace=*"
    days = f"day={day.isoformat()}" if day else "day=*"
    return sorted(root.glob(f"{folder}/{days}/*.parquet"))


def read(root: Path, schema: pa.Schema, workspace: str | None = None, day: date | None = None) -> pa.Table:
    """A table, or a part of it, as Arrow; empty with the right columns where nothing was written."""
    paths = files(root, workspace, day)
    if not paths:
        return schema.empty_table()
    return pa.concat_tables([pq.ParquetFile(artifacts.source(path)).read().cast(schema) for path in paths])


@contextmanager
def connect(
    path: Path | None = None, *, read_only: bool = False, alone: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection (in memory by default) in UTC, closed whatever happens.

    Connections in memory that are open at once share an engine, each in a database of its own: to start one takes
    longer than most questions. `alone` starts one all the same, for settings that hold for a whole engine.
    """
    store = settings.store()
    # Clients of an object store belong to one thread and to what the environment says: each has an engine of its own.
    shared = None if path or alone or store else _shared
    connection = shared.enter() if shared else duckdb.connect(str(path or ":memory:"), read_only=read_only)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        # DuckDB draws its bar on standard output, which is for results.
        connection.execute("SET enable_progress_bar = false")
        if store:
            connection.register_filesystem(store.fs)  # pyright: ignore[reportAttributeAccessIssue]  # a UPath
        yield connection
    finally:
        if shared:
            shared.leave(connection)
        else:
            connection.close()


class _Shared:
    """An engine in memory. It starts with the first connection and ends with the last, which gives its memory back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None
        self._open: dict[duckdb.DuckDBPyConnection, str] = {}
        self._names = (f"scratch{number}" for number in itertools.count())

    def enter(self) -> duckdb.DuckDBPyConnection:
        """A connection in a new database."""
        with self._lock:
            root = self._root or duckdb.connect(":memory:")
            connection, name = root.cursor(), next(self._names)
            connection.execute(f"ATTACH ':memory:' AS {name}; USE {name}")
            self._root = root
            self._open[connection] = name
            return connection

    def leave(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Close a connection and drop its database."""
        with self._lock:
            assert self._root is not None
            connection.close()
            self._root.execute(f"DETACH {self._open.pop(connection)}")
            if not self._open:
                self._root.close()
                self._root = None


def _forked() -> None:
    """Leave an engine alone that was inherited through a fork: its threads stayed behind."""
    global _shared
    _inherited.append(_shared)
    _shared = _Shared()


_shared = _Shared()
_inherited: list[_Shared] = []
os.register_at_fork(after_in_child=_forked)


def scan_sql(root: Path, schema: pa.Schema, workspace: str | None = None) -> str:
    """A SQL table expression over a table's files; an empty relation of the same columns where there are none.

    For `FROM`: `SELECT * FROM {scan_sql(...)}`.
    """
    if files(root, workspace):
        folder = f"workspace={workspace}" if workspace else "workspace=*"
        pattern = str(root / folder / "day=*" / "*.parquet").replace("'", "''")
        return f"read_parquet('{pattern}', hive_partitioning=false, union_by_name=true)"
    columns = ", ".join(f'NULL::{_duckdb_type(f.type)} AS "{f.name}"' for f in schema)
    return f"(SELECT {columns} WHERE false)"


def _duckdb_type(kind: pa.DataType) -> str:
    """The DuckDB name of an Arrow type used in our schemas."""
    if pa.types.is_struct(kind):
        inner = ", ".join(f'"{kind.field(i).name}" {_duckdb_type(kind.field(i).type)}' for i in range(kind.num_fields))
        return f"STRUCT({inner})"
    if pa.types.is_list(kind):
        return _duckdb_type(kind.value_type) + "[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    names = {
        pa.string(): "VARCHAR",
        pa.bool_(): "BOOLEAN",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE",
    }
    return names[kind]
