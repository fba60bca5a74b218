"""What was erased of versions since they were made: they stand as they are, and skip those rows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture.erasing.erasure import Erasure, Tombstones, records
from flywheel.corpus import decisions
from flywheel.corpus.manifest import Manifest
from flywheel.settings import Home

ERASED = pa.schema([("trajectory_id", pa.string()), ("erasure", pa.string())])


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure that took rows from a version: how many it kept, and how many were candidates."""

    erasure: str
    at: datetime
    rows: int
    candidates: int

    def __str__(self) -> str:
        return f"{self.rows} rows ({self.candidates} candidates) erased since, on {self.at:%Y-%m-%d} ({self.erasure})"


def among(home: Home, of: Manifest, rows: pa.Table) -> pa.Table:
    """The erased ones of rows (trajectory_id, content_digest) of a version: rows of `ERASED`, ordered by id."""
    return taken(records(home, of.recipe["workspace"]), rows)


def taken(erasures: list[Erasure], rows: pa.Table) -> pa.Table:
    """What some erasures took of rows (trajectory_id, content_digest): rows of `ERASED`, ordered by id."""
    if not erasures:
        return ERASED.empty_table()
    # Few rows have the content of an erased one: of these alone the ids are hashed.
    digests = sorted({digest for erasure in erasures for digest in erasure.content_digests})
    with warehouse.connect() as connection:
        connection.register("rows", rows.select(["trajectory_id", "content_digest"]))
        connection.register("digests", pa.table({"content_digest": pa.array(digests, pa.string())}))
        likely = connection.sql("SELECT trajectory_id FROM rows SEMI JOIN digests USING (content_digest)")
        found = likely.to_arrow_table()
    return Tombstones(erasures).among(found).cast(ERASED) if found.num_rows else ERASED.empty_table()


def without(home: Home, of: Manifest, rows: pa.Table) -> pa.Table:
    """Rows (trajectory_id, content_digest, ...) of a version but for the erased ones, in their order."""
    gone = among(home, of, rows)
    if not gone.num_rows:
        return rows
    with warehouse.connect() as connection:
        connection.register("rows", rows)
        connection.register("gone", gone)
        return connection.sql(
            "SELECT rows.* FROM rows ANTI JOIN gone USING (trajectory_id) ORDER BY trajectory_id"
        ).to_arrow_table()


def notes(home: Home, of: Manifest) -> list[Note]:
    """The erasures that took rows from a version since it was made, oldest first."""
    erasures = {record.id: record for record in records(home, of.recipe["workspace"])}
    if not erasures:
        return []
    return [
        Note(erasure=id, at=erasures[id].begun_at, rows=rows, candidates=candidates)
        for id, (candidates, rows, _) in counted(home, of, list(erasures.values())).items()
    ]


def told(home: Home) -> Counter[str]:
    """How many of its rows each version has lost, by its name as in `NAME@v3`, as the records of erasures tell it."""
    rows: Counter[str] = Counter()
    for record in records(home):
        for affected in record.versions:
            rows[affected.ref] += affected.rows
    return rows


def counted(home: Home, of: Manifest, erasures: list[Erasure]) -> dict[str, tuple[int, int, int]]:
    """By erasure, how many candidates of a version it took, how many of them were kept, and trained on."""
    decided = decisions.where(home, of, "true", "trajectory_id, content_digest, kept, split")
    with warehouse.connect() as connection:
        connection.register("decided", decided)
        connection.register("gone", taken(erasures, decided))
        found = connection.sql(
            "SELECT erasure, count(*), count(*) FILTER (kept), count(*) FILTER (kept AND split = 'train') "
            "FROM decided JOIN gone USING (trajectory_id) GROUP BY erasure ORDER BY erasure"
        ).fetchall()
    return {erasure: (candidates, rows, trained) for erasure, candidates, rows, trained in found}


def now(home: Home, workspace: str, path: str) -> Path | None:
    """Where the rows of a file of captures or outcomes are that erasures have left; None where it has none.

    `path` and the answer are as in `Manifest.inputs`; the file itself where no erasure touched it.
    """
    moved = {old: new for record in records(home, workspace) for old, new in (record.replaced or {}).items()}
    while path in moved:
        path = moved[path]
    return Path(path) if path else None
