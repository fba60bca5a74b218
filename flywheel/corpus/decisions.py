"""Decisions as they are stored: all of them in one file, and of each later version those that changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.corpus.manifest import Manifest, folder
from flywheel.curate.decide import DECISIONS
from flywheel.schema import FlywheelError
from flywheel.settings import Home

# When the changes together reach this share of the first file, or this many files, all decisions are written anew:
# reading stays cheap, and over many versions the bytes written stay within a few times those of the changes.
LARGEST_SHARE = 0.25
MOST_FILES = 16

COLUMNS = ", ".join(f'"{name}"' for name in DECISIONS.names)


def decisions(home: Home, of: Manifest) -> pa.Table:
    """Every candidate's decision in a version: rows of `DECISIONS`, ordered by trajectory_id.

    Raises:
        FlywheelError: when a file of them is missing or damaged.
    """
    with warehouse.connect() as connection:
        return _read(connection, home, of, f"SELECT * FROM {relation(home, of)} ORDER BY trajectory_id").cast(DECISIONS)


def where(home: Home, of: Manifest, condition: str, columns: str = COLUMNS, **params: object) -> pa.Table:
    """The decisions that meet a SQL condition of ours, ordered by trajectory_id."""
    with warehouse.connect() as connection:
        query = f"SELECT {columns} FROM {relation(home, of)} WHERE {condition} ORDER BY trajectory_id"
        return _read(connection, home, of, query, **params)


def relation(home: Home, of: Manifest) -> str:
    """The decisions of a version as a SQL relation, unordered: each candidate's row in the last file that has it."""
    files = [_scan(folder(home, of.name) / path) for path in of.decision_files]
    parts = [f"SELECT {COLUMNS} FROM {files[-1]}"]
    for position in range(len(files) - 1):
        later = " UNION ALL ".join(f"SELECT trajectory_id FROM {file}" for file in files[position + 1 :])
        parts.append(f"SELECT {COLUMNS} FROM {files[position]} ANTI JOIN ({later}) USING (trajectory_id)")
    return f"({' UNION ALL '.join(parts)})"


def write(home: Home, name: str, version: int, decided: pa.Table, parent: Manifest | None) -> tuple[str, ...]:
    """Write what a version's decisions change against its parent's; the files that hold them all.

    All are written where there is no parent, a candidate of it is gone, or the changes have grown large.
    """
    files = (f"decisions/v{version}.parquet",)
    table = decided
    if parent is not None and len(parent.decision_files) < MOST_FILES:
        changes = _changes(home, parent, decided)
        if changes is not None:
            first, *later = [pq.read_metadata(folder(home, name) / path).num_rows for path in parent.decision_files]
            if sum(later) + changes.num_rows <= LARGEST_SHARE * first:
                if not changes.num_rows:
                    return parent.decision_files
                table, files = changes, (*parent.decision_files, *files)
    artifacts.write_parquet(folder(home, name) / files[-1], table)
    return files


def digest(decided: pa.Table) -> str:
    """SHA-256 over the digests of all decisions, in order of trajectory_id."""
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        rows = connection.sql("SELECT sha256(to_json(d)::VARCHAR) AS row FROM decided AS d ORDER BY trajectory_id")
        return hashlib.sha256("".join(rows.to_arrow_table()["row"].to_pylist()).encode()).hexdigest()


def _changes(home: Home, parent: Manifest, decided: pa.Table) -> pa.Table | None:
    """The decisions that the parent has not or has otherwise; None where it has a candidate that is gone."""
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        try:
            connection.sql(f"CREATE TABLE before AS SELECT * FROM {relation(home, parent)}")
        except (duckdb.Error, FlywheelError):
            return None  # the parent is damaged: this version does not lean on it
        [(gone,)] = connection.sql("SELECT count(*) FROM before ANTI JOIN decided USING (trajectory_id)").fetchall()
        if gone:
            return None
        changed = connection.sql(
            "SELECT d.* FROM decided AS d LEFT JOIN before AS b USING (trajectory_id) "
            "WHERE b.trajectory_id IS NULL OR d IS DISTINCT FROM b ORDER BY trajectory_id"
        )
        return changed.to_arrow_table().cast(DECISIONS)


def _scan(path: Path) -> str:
    return f"read_parquet('{str(path).replace(chr(39), chr(39) * 2)}', hive_partitioning=false)"


def _read(connection: duckdb.DuckDBPyConnection, home: Home, of: Manifest, query: str, **params: object) -> pa.Table:
    try:
        return connection.sql(query, params=params or None).to_arrow_table()
    except duckdb.Error as error:
        raise FlywheelError(
            f"the decisions of {of.ref} are missing or damaged ({str(error).splitlines()[0]}); restore them from the "
            f"captures with: flywheel corpus rebuild {of.ref}"
        ) from error
