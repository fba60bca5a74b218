"""Decisions as they are stored: all of them in one file, and of each later version those that changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.corpus.manifest import Manifest, folder
from flywheel.curate.decide import DECISIONS, DIGEST
from flywheel.curate.words import Numbers
from flywheel.schema import FlywheelError
from flywheel.settings import Home

# When the changes together reach this share of the first file, or this many files, all decisions are written anew:
# reading stays cheap, and over many versions the bytes written stay within a few times those of the changes.
LARGEST_SHARE = 0.25
MOST_FILES = 16

# Lines of a digest that are put together at a time.
LINES = 1 << 14

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
    return _relation(folder(home, of.name), of.decision_files)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says of its decisions."""

    digest: str
    decisions_digest: str
    rows: int
    splits: dict[str, int]
    candidates: int
    reasons: dict[str, int]


def write(home: Home, name: str, version: int, decided: pa.Table) -> tuple[str, ...]:
    """Write all decisions of a version; the files that hold them."""
    path = _name(home, version, decided)
    artifacts.write_parquet(folder(home, name) / path, decided)
    return (path,)


def append(home: Home, name: str, version: int, changes: pa.Table, parent: Manifest) -> tuple[str, ...]:
    """Write the decisions that a version changes against its parent's; the files that hold them all.

    Where the changes have grown large, all are written anew.
    """
    if not changes.num_rows:
        return parent.decision_files
    place = folder(home, name)
    files = (*parent.decision_files, _name(home, version, changes))
    first, *later = [pq.read_metadata(artifacts.source(place / path)).num_rows for path in parent.decision_files]
    if len(files) <= MOST_FILES and sum(later) + changes.num_rows <= LARGEST_SHARE * first:
        artifacts.write_parquet(place / files[-1], changes)
        return files
    with warehouse.connect() as connection:
        connection.register("changes", changes)
        whole = connection.sql(
            f"SELECT {COLUMNS} FROM changes UNION ALL "
            f"SELECT {COLUMNS} FROM {relation(home, parent)} ANTI JOIN changes USING (trajectory_id) "
            "ORDER BY trajectory_id"
        )
        return write(home, name, version, whole.to_arrow_table().cast(DECISIONS))


def _name(home: Home, version: int, decided: pa.Table) -> str:
    """Where decisions of a version go. On an object store two machines may be making it: their files must differ."""
    return f"decisions/v{version}{f'-{digest(decided)[:24]}' if artifacts.remote(home.corpora) else ''}.parquet"


def changed(home: Home, parent: Manifest, decided: pa.Table) -> pa.Table | None:
    """The decisions that the parent has not, or has otherwise; None where it has a candidate that is gone.

    None also where the parent's decisions are damaged: a new version does not lean on them.
    """
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        try:
            connection.sql(
                f"CREATE TABLE before AS SELECT trajectory_id, decision_digest FROM {relation(home, parent)}"
            )
        except duckdb.Error:
            return None
        [(gone,)] = connection.sql("SELECT count(*) FROM before ANTI JOIN decided USING (trajectory_id)").fetchall()
        if gone:
            return None
        rows = connection.sql(
            "SELECT d.* FROM decided AS d ANTI JOIN before AS b USING (trajectory_id, decision_digest) "
            "ORDER BY trajectory_id"
        )
        return rows.to_arrow_table().cast(DECISIONS)


def summary(home: Home, name: str, files: tuple[str, ...]) -> Summary:
    """The digests and the counts of decisions as they are stored."""
    place = folder(home, name)
    columns = ["decision_digest", "row_digest", "kept", "split", "reason"]
    ids = ["trajectory_id"] * (len(files) > 1)
    decided = pl.read_parquet(artifacts.source(place / files[0]), columns=[*ids, *columns])
    if ids:
        with warehouse.connect() as connection:
            later = _relation(place, files[1:])
            changes = connection.sql(f"SELECT {', '.join(ids + columns)} FROM {later} ORDER BY trajectory_id").pl()
        rows = _merged(decided["trajectory_id"], changes["trajectory_id"])
        decided = pl.concat([decided.select(columns), changes.select(columns)])[rows]
    kept = decided.filter("kept")
    return Summary(
        digest=_sha256(_sorted(kept["row_digest"])),
        decisions_digest=_sha256(decided["decision_digest"]),
        rows=len(kept),
        splits=_counts(kept["split"]),
        candidates=len(decided),
        reasons=_counts(decided["reason"]),
    )


def rows_digest(row_digests: pa.ChunkedArray) -> str:
    """SHA-256 over the sorted digests of rows: it knows nothing of their order, of machines or of clocks."""
    return _sha256(_sorted(pl.Series(pl.from_arrow(row_digests))))


def digest(decided: pa.Table) -> str:
    """SHA-256 over the digests of all decisions, which stand in order of trajectory_id."""
    return _sha256(pl.Series(pl.from_arrow(decided["decision_digest"])))


def _merged(first: pl.Series, later: pl.Series) -> Numbers:
    """The places in `first` and then `later`, both ascending, of each of their values once, in order; the later one."""
    at = first.search_sorted(later).to_numpy().astype(np.int64)
    known = at < len(first)
    known[known] = (first.gather(at[known]) == later.filter(pl.Series(known))).to_numpy()
    rows = np.arange(len(first))
    rows[at[known]] = len(first) + np.flatnonzero(known)
    return np.insert(rows, at[~known], len(first) + np.flatnonzero(~known))


def _sorted(digests: pl.Series) -> pl.Series:
    """Digests (hexadecimal) in order."""
    # To sort their beginnings as numbers takes a third of the time.
    numbers = digests.str.slice(0, 15).str.to_integer(base=16).to_numpy()
    order = np.argsort(numbers)
    if (np.diff(numbers[order]) == 0).any():
        return digests.sort()
    return digests.gather(order)


def _sha256(lines: pl.Series) -> str:
    """SHA-256 over texts, a line each."""
    told = hashlib.sha256()
    for start in range(0, len(lines), LINES):
        told.update(b"\n" * (start > 0) + lines.slice(start, LINES).str.join("\n").item().encode())
    return told.hexdigest()


def _counts(values: pl.Series) -> dict[str, int]:
    """How often each value stands there, by value."""
    return dict(values.value_counts().sort(values.name).iter_rows())


def sound(decided: pa.Table) -> bool:
    """Whether each decision has the digest of what it says."""
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        saying = "(SELECT * EXCLUDE (decision_digest) FROM decided) AS d"
        said = f"SELECT {DIGEST} AS digest FROM {saying} ORDER BY trajectory_id"
        return connection.sql(said).to_arrow_table()["digest"].equals(decided["decision_digest"])


def _relation(place: Path, paths: tuple[str, ...]) -> str:
    files = [_scan(place / path) for path in paths]
    parts = [f"SELECT {COLUMNS} FROM {files[-1]}"]
    for position in range(len(files) - 1):
        later = " UNION ALL ".join(f"SELECT trajectory_id FROM {file}" for file in files[position + 1 :])
        parts.append(f"SELECT {COLUMNS} FROM {files[position]} ANTI JOIN ({later}) USING (trajectory_id)")
    return f"({' UNION ALL '.join(parts)})"


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
