"""Arrivals: the one way into the stored tables of a workspace, where each record is let in once and on an open day."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import polars as pl
import pyarrow as pa

from flywheel import artifacts, schema, warehouse
from flywheel.capture.erasing import forget
from flywheel.capture.erasing.erasure import Tombstones, records
from flywheel.schema import Outcome, Quarantined, Trajectory
from flywheel.settings import Home

TICK = timedelta(microseconds=1)  # the resolution of stored times
Item = TypeVar("Item")


class Arrivals:
    """What a workspace has stored, and the moment up to which it is closed.

    **Closed** means settled: once a settle as of a moment has run, no row that arrived at or before that moment is
    ever added, so a snapshot as of it can be rebuilt for ever. What is found later arrives later, see `moment`.
    All is read and added within `locked`. Of stored files only columns of ids are read, and each file once.
    What was erased is never let in again: `erased` tells it, and nothing that is added or asked for has it.
    """

    def __init__(self, home: Home, workspace: str) -> None:
        self.home, self.workspace = home, workspace
        self.folder = home.journals / workspace
        self.closed_through = datetime.min.replace(tzinfo=UTC)
        self.tombstones = Tombstones(records(home, workspace))
        self._columns: dict[tuple[Path, str], tuple[set[Path], list[pl.DataFrame]]] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes that settle, ingest into or erase from this workspace.

        An erasure that somebody left unfinished is brought to its end first.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        closed = self.folder / "closed.json"
        file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if closed.exists():
                self.closed_through = datetime.fromisoformat(artifacts.read_json(closed)["through"])
            forget.resume(self.home, self.workspace)
            self.tombstones = Tombstones(records(self.home, self.workspace))
            yield
        finally:
            os.close(file)

    def close(self, through: datetime) -> None:
        """Close everything up to a moment."""
        if through > self.closed_through:
            self.closed_through = through
            artifacts.write_json(self.folder / "closed.json", {"through": through.astimezone(UTC).isoformat()})

    def moment(self, at: datetime, now: datetime) -> datetime:
        """When something that happened at `at` and is stored `now` arrives: then, or now if then is closed."""
        return at if at > self.closed_through else max(now, self.closed_through + TICK)

    def erased(self, ids: Iterable[str]) -> set[str]:
        """Those of the trajectory ids that were erased."""
        return self.tombstones.named(ids)

    def erased_inputs(self, rows: Iterable[Quarantined]) -> int:
        """How many of the inputs were erased before."""
        return sum(bool(self.tombstones.inputs([row.key])) for row in rows)

    def new_trajectories(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that no stored trajectory has, and that may come."""
        return self._new(self.home.captures, ids, pl.col("id")) - self.erased(ids)

    def stored(self, ids: Sequence[str]) -> dict[str, str]:
        """The metadata of the stored trajectories that have one of the ids."""
        there = set(ids) - self._new(self.home.captures, ids, pl.col("id"))
        found: dict[str, str] = {}
        for file in warehouse.files(self.home.captures, self.workspace) if there else ():
            rows = pl.scan_parquet(str(file), hive_partitioning=False).filter(pl.col("id").is_in(there))
            found.update(rows.select("id", "metadata").collect().iter_rows())
        return found

    def of_traces(self, traces: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """The metadata of the stored trajectories of traces, by trace and id."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for file in warehouse.files(self.home.captures, self.workspace) if traces else ():
            rows = pl.scan_parquet(str(file), hive_partitioning=False).select("id", "metadata")
            named = rows.filter(pl.col("metadata").str.contains_any(sorted(traces)))
            for id, metadata in named.collect().iter_rows():
                about = msgspec.json.decode(metadata)
                if isinstance(about, dict) and about.get("trace") in traces:
                    found.setdefault(about["trace"], {})[id] = about
        return found

    def without_outcomes(self, ids: Sequence[str], source: str) -> set[str]:
        """Those of the trajectory ids of which the ledger holds no outcome from a source."""
        return self._new(self.home.outcomes, ids, pl.col("trajectory_id").filter(pl.col("source") == source))

    def add_trajectories(self, trajectories: Sequence[Trajectory]) -> int:
        """Store the trajectories that are not stored yet, the first of each id; returns how many."""
        by_id = _first_of(trajectories, lambda t: t.id)
        new = self.new_trajectories(list(by_id))
        return self._append(self.home.captures, schema.trajectories_table([by_id[i] for i in by_id if i in new]))

    def add_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Store the outcomes that are not stored yet, the first of each id; returns how many."""
        gone = self.erased({outcome.trajectory_id for outcome in outcomes})
        by_id = _first_of([outcome for outcome in outcomes if outcome.trajectory_id not in gone], lambda o: o.id)
        new = self._new(self.home.outcomes, list(by_id), pl.col("id"))
        return self._append(self.home.outcomes, schema.outcomes_table([by_id[i] for i in by_id if i in new]))

    def add_quarantined(self, rows: Sequence[Quarantined]) -> int:
        """Store the quarantined inputs that are not stored yet; returns how many."""
        by_key = _first_of(rows, lambda row: row.key)
        key = pl.concat_str(
            "source", pl.col("line").cast(pl.String).fill_null(""), "error", "excerpt", separator="\x1f"
        )
        new = self._new(self.home.quarantine, list(by_key), key) - self.tombstones.inputs(by_key)
        return self._append(self.home.quarantine, schema.quarantine_table([by_key[k] for k in by_key if k in new]))

    def _new(self, root: Path, keys: Collection[str], column: pl.Expr) -> set[str]:
        """The keys that a column of the stored files does not hold; a file's column is read once."""
        asked = pl.DataFrame({"key": list(keys)}, schema={"key": pl.String})
        if not keys:
            return set()
        files = warehouse.files(root, self.workspace)
        read, frames = self._columns.get((root, str(column)), (set[Path](), []))
        if not read.issubset(files):  # an erasure has written some anew
            read, frames = set(), []
        if unread := [str(file) for file in files if file not in read]:
            frames = [*frames, pl.scan_parquet(unread, hive_partitioning=False).select(column.alias("key")).collect()]
            self._columns[root, str(column)] = set(files), frames
        for frame in frames:
            asked = asked.join(frame, on="key", how="anti")
        return set(asked["key"])

    def _append(self, root: Path, table: pa.Table) -> int:
        if table.num_rows:
            warehouse.append(root, table)
        return table.num_rows


def _first_of(items: Sequence[Item], key: Callable[[Item], str]) -> dict[str, Item]:
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(key(item), item)
    return first
