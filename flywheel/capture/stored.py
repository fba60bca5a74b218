"""What is stored of a workspace, read page by page in the order of arrival: trajectories and quarantined inputs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.capture.cursors import Place
from flywheel.capture.erasing.traces import KEY
from flywheel.schema import OUTCOMES, EndState, Trajectory, arrival_day, trajectory_of
from flywheel.settings import Home

AT_ONCE = 1000  # rows that are in memory at a time
HELD = 2**24  # and bytes of whole trajectories, about
SAMPLED = 20  # files that tell how large those are
TRIES = 3  # for files that an erasure replaces while they are read


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which trajectories are asked for; None asks for nothing. Times bound `arrived_at`, `until` included."""

    task_type: str | None = None
    agent: str | None = None
    model: str | None = None
    end_state: EndState | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: bool | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory but for what was said: `n_steps` steps, alike by `content_digest`."""

    id: str
    workspace: str
    task_id: str
    task_group: str
    task_type: str
    agent: str
    agent_version: str
    model: str
    provider: str
    end_state: EndState
    started_at: datetime | None
    arrived_at: datetime
    source: str
    source_line: int | None
    metadata: str
    n_steps: int
    content_digest: str


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An input that could not be read: where it stood, what was wrong, and how it began."""

    source: str
    line: int | None
    error: str
    excerpt: str
    arrived_at: datetime


# Places of rows, in the order of arrival: `key` tells apart what arrived at once, `file` is where it lies.
PLACES = pa.schema(
    [
        ("arrived_at", OUTCOMES.field("arrived_at").type),
        ("key", pa.string()),
        ("file", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def last(places: pa.Table) -> Place:
    """The last of some places."""
    [row] = places.slice(places.num_rows - 1).to_pylist()
    return row["arrived_at"], row["key"]


def trajectories(home: Home, workspace: str, asked: Filter, start: Place | None, limit: int | None = None) -> pa.Table:
    """Places of the trajectories that are asked for, oldest first, behind where a page begins."""
    where, params = ["true"], {}
    for name in ("task_type", "agent", "model", "end_state"):
        if (value := getattr(asked, name)) is not None:
            where.append(f"{name} = ${name}")
            params[name] = value
    if asked.outcome is not None:
        told = warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
        where.append(f"id {'' if asked.outcome else 'NOT '}IN (SELECT trajectory_id FROM {told})")
    return _places(home.captures, workspace, "id", where, params, asked.since, asked.until, start, limit)


def summaries(places: pa.Table) -> Iterator[list[Summary]]:
    """The trajectories at some places but for their steps."""
    for rows in _rows(places, "id", ", ".join(Summary.__struct_fields__), AT_ONCE):
        yield [msgspec.convert(row, Summary) for row in rows]


def whole(places: pa.Table) -> Iterator[list[Trajectory]]:
    """The trajectories at some places, about `HELD` bytes at a time."""
    for rows in _rows(places, "id", "*", _few(places)):
        yield [trajectory_of(row) for row in rows]


def one(home: Home, workspace: str, id: str) -> Trajectory | None:
    """The trajectory of an id; None where the workspace has none."""
    places = _places(home.captures, workspace, "id", ["id = $id"], {"id": id}, None, None, None, 1)
    return next((found[0] for found in whole(places)), None)


def quarantine(home: Home, workspace: str, since: datetime | None, start: Place | None, limit: int | None) -> pa.Table:
    """Places of the inputs that were set aside, oldest first, behind where a page begins."""
    return _places(home.quarantine, workspace, f"md5({KEY})", ["true"], {}, since, None, start, limit)


def inputs(places: pa.Table) -> Iterator[list[Input]]:
    """The inputs at some places."""
    for rows in _rows(places, f"md5({KEY})", ", ".join(Input.__struct_fields__), AT_ONCE):
        yield [msgspec.convert(row, Input) for row in rows]


def through(home: Home, workspace: str) -> datetime | None:
    """The moment up to which a workspace is settled: no row will arrive at or before it any more."""
    path = home.journals / workspace / "closed.json"
    return datetime.fromisoformat(artifacts.read_json(path)["through"]) if path.exists() else None


def _places(
    root: Path,
    workspace: str,
    key: str,
    where: list[str],
    params: dict[str, Any],
    since: datetime | None,
    until: datetime | None,
    start: Place | None,
    limit: int | None,
) -> pa.Table:
    if since is not None:
        where, params = [*where, "arrived_at >= $since"], params | {"since": since}
    if until is not None:
        where, params = [*where, "arrived_at <= $until"], params | {"until": until}
    if start is not None:
        where = [*where, f"arrived_at >= $at AND (arrived_at > $at OR {key} > $key)"]
        params |= {"at": start[0], "key": start[1]}
    earliest = max((moment for moment in (since, start and start[0]) if moment), default=None)
    first = f"day={arrival_day(earliest)}" if earliest else ""
    for attempt in range(TRIES):
        files = [str(path) for path in warehouse.files(root, workspace) if path.parent.name >= first]
        if not files:
            break
        try:
            with warehouse.connect() as connection:
                reader = connection.sql(
                    f"SELECT arrived_at, {key} AS key, filename AS file FROM read_parquet($files, filename = true, "
                    f"hive_partitioning = false, union_by_name = true) WHERE {' AND '.join(where)} "
                    "ORDER BY arrived_at, key LIMIT $limit",
                    params=params | {"files": files, "limit": limit},
                ).to_arrow_reader(100_000)
                # Each row names its file, of which there are few.
                batches = [batch.set_column(2, "file", batch["file"].dictionary_encode()) for batch in reader]
                return pa.Table.from_batches(batches).unify_dictionaries() if batches else PLACES.empty_table()
        except duckdb.IOException:
            if attempt == TRIES - 1:
                raise
    return PLACES.empty_table()


def _few(places: pa.Table) -> int:
    """How many whole trajectories make about `HELD` bytes."""
    files = places["file"].unique().to_pylist()[:SAMPLED]
    if not files:
        return 1
    with warehouse.connect() as connection:
        [(largest,)] = connection.sql(
            "SELECT max(bytes / rows) FROM (SELECT sum(total_uncompressed_size) AS bytes, "
            "sum(row_group_num_rows) FILTER (column_id = 0) AS rows FROM parquet_metadata($files) GROUP BY file_name)",
            params={"files": files},
        ).fetchall()
    return max(1, min(AT_ONCE, int(HELD / largest)))


def _rows(places: pa.Table, key: str, columns: str, at_once: int) -> Iterator[list[dict[str, Any]]]:
    for begin in range(0, places.num_rows, at_once):
        part = places.slice(begin, at_once)
        ends = [part["arrived_at"][i].as_py() for i in (0, part.num_rows - 1)]
        with warehouse.connect() as connection:
            found = connection.sql(
                f"SELECT {columns} FROM read_parquet($files, hive_partitioning = false, union_by_name = true) "
                f"WHERE arrived_at BETWEEN $first AND $last AND list_contains($keys, {key}) ORDER BY arrived_at, {key}",
                params={
                    "files": part["file"].unique().to_pylist(),
                    "first": ends[0],
                    "last": ends[1],
                    "keys": part["key"].to_pylist(),
                },
            ).to_arrow_table()
        yield found.to_pylist()
