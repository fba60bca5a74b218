"""Erasures: records of what was forgotten, and tombstones that name nobody, so that it never comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

import duckdb
import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.schema import FlywheelError
from flywheel.settings import Home

_TOMBSTONES = pa.schema([("hash", pa.string()), ("erasure", pa.string())])


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """A corpus version that had erased trajectories among its candidates, in its rows, and in those trained on.

    `successor` is the version that stands for it since, without them: the newest of its branch.
    """

    ref: str
    candidates: int
    rows: int
    trained: int
    successor: str | None = None


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """A policy, a forest of trees or a folder of pairs that came of erased rows, and what it came of (`through`).

    `rows` were trained on directly; 0 where it came of something else that is marked. The champion `serves`.
    """

    kind: Literal["policy", "trees", "pairs"]
    id: str
    rows: int
    through: str
    serves: bool = False


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased in one workspace at one demand. The file appears before anything is touched.

    Whoever finds one that is not done brings it to its end: nothing of this depends on who began it. The texts that
    were looked for (`subjects`) are kept until then, and no longer; `asked` counts what was asked for. Trajectories
    and quarantined `inputs` are known by SHA-256 of `salt` and their id (or line): enough to refuse them, and to name
    them to whoever has the id. `content_digests` are theirs. `counts` says how many rows of each kind were found.
    `replaced` leads from each file that held some to the file that has the others (empty where none were left).
    `cleared` counts, by file, further rows that were dropped or texts that were masked, and `left` names files that
    hold a text still and are not ours to change. `because` is kept as written: it should name nobody.
    """

    id: str
    workspace: str
    begun_at: datetime
    done_at: datetime | None = None
    by: str
    because: str = ""
    asked: dict[str, int]
    subjects: tuple[str, ...] = ()
    salt: str
    trajectories: tuple[str, ...] = ()
    content_digests: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    counts: dict[str, int]
    captured: bool = False
    replaced: dict[str, str] | None = None
    versions: tuple[Affected, ...] = ()
    marked: tuple[Marked, ...] = ()
    cleared: dict[str, int] | None = None
    left: tuple[str, ...] = ()

    def hashed(self, text: str) -> str:
        """What is kept instead of an id or a line."""
        return hashed(self.salt, text)


def hashed(salt: str, text: str) -> str:
    """SHA-256 of a salt and a text; `Tombstones.erasure_sql` takes it in SQL."""
    return hashlib.sha256(f"{salt}\x1f{text}".encode()).hexdigest()


def records(home: Home, workspace: str | None = None) -> list[Erasure]:
    """All erasures, or those of one workspace, oldest first.

    Raises:
        FlywheelError: when a record cannot be read: without it, what was erased could come back.
    """
    if not home.erasures.exists():
        return []
    found = []
    for path in sorted(home.erasures.glob("*.json")):
        if artifacts.remote(path):
            # Whether it was written anew cannot be told from what a store says of it.
            found.append(_read.__wrapped__(path, 0, 0))
            continue
        stat = path.stat()
        found.append(_read(path, stat.st_mtime_ns, stat.st_ino))
    return [record for record in found if workspace in (None, record.workspace)]


@lru_cache(maxsize=256)
def _read(path: Path, modified: int, inode: int) -> Erasure:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Erasure)
    except msgspec.MsgspecError as error:
        raise FlywheelError(
            f"the record of an erasure, {path}, cannot be read ({error}); bring it back from a copy: what it names "
            "must not come back"
        ) from error


def unfinished(home: Home) -> list[Erasure]:
    """The erasures that were begun and not brought to their end, oldest first."""
    return [record for record in records(home) if record.done_at is None]


def save(home: Home, record: Erasure) -> Erasure:
    """Write a record as it stands now."""
    artifacts.write_json(home.erasures / f"{record.id}.json", record)
    return record


class Tombstones:
    """What erasures took from a workspace, asked by id; false where there are none."""

    def __init__(self, erasures: Sequence[Erasure]) -> None:
        self.records = erasures
        self._trajectories = {salt: self._hashes(salt, "trajectories") for salt in self._salts()}
        self._inputs = {salt: self._hashes(salt, "inputs") for salt in self._salts()}

    def __bool__(self) -> bool:
        return bool(self.records)

    def named(self, ids: Iterable[str]) -> set[str]:
        """Those of the trajectory ids that were erased."""
        return {id for id in ids if self._in(self._trajectories, id)}

    def by(self, id: str) -> str | None:
        """The erasure that took a trajectory; None where none did."""
        taken = (record.id for record in self.records if record.hashed(id) in record.trajectories)
        return next(taken, None)

    def inputs(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys of quarantined inputs that were erased."""
        return {key for key in keys if self._in(self._inputs, key)}

    def either(self, names: Collection[str]) -> set[str]:
        """Those of the names that are a trajectory's id or an input's key, and were erased."""
        return self.named(names) | self.inputs(names)

    def among(self, rows: pa.Table, key: str = "trajectory_id") -> pa.Table:
        """The erased ones of rows that have ids in the column `key`: columns `key` and `erasure` (the record's id)."""
        with self.connected() as connection:
            connection.register("asked_rows", rows.select([key]))
            erasure = self.erasure_sql(f'"{key}"')
            return connection.sql(
                f'SELECT DISTINCT "{key}", {erasure} AS erasure FROM asked_rows WHERE erasure IS NOT NULL ORDER BY 1'
            ).to_arrow_table()

    @contextmanager
    def connected(self, kind: str = "trajectories") -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in which `erasure_sql` can be asked, of `trajectories` or of `inputs`."""
        with warehouse.connect() as connection:
            pairs = {hash: record.id for record in reversed(self.records) for hash in getattr(record, kind)}
            columns = {"hash": list(pairs), "erasure": list(pairs.values())}
            connection.register("tombstones", pa.table(columns, schema=_TOMBSTONES))
            yield connection

    def erasure_sql(self, column: str) -> str:
        """A SQL expression: the id of the erasure that took the row whose id (or key) a column has, else NULL."""
        hashes = [f"sha256('{salt}' || chr(31) || {column})" for salt in self._salts()]
        found = [f"(SELECT any_value(erasure) FROM tombstones WHERE hash = {hash})" for hash in hashes]
        return f"coalesce({', '.join([*found, 'NULL'])})"

    def _salts(self) -> list[str]:
        return sorted({record.salt for record in self.records})

    def _hashes(self, salt: str, kind: str) -> set[str]:
        return {hash for record in self.records if record.salt == salt for hash in getattr(record, kind)}

    def _in(self, hashes: dict[str, set[str]], text: str) -> bool:
        return any(hashed(salt, text) in known for salt, known in hashes.items())
