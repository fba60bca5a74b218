"""Captured rows, prepared once: every column of a trajectory, and digests of what it did and of how it began."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import derived, digests, packed
from flywheel.curate.derivation import KEYS, Derivation
from flywheel.curate.scattered import awake, scattered, sparse
from flywheel.schema import STEP, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

# What `light` gives unless it is asked for others: neither what was said nor what only machines read.
LIGHT = tuple(name for name in [*TRAJECTORIES.names, "effects"] if name not in ("steps", "tools", "metadata"))

# Columns of steps that are kept apart as well, for readers that want nothing that was said.
MARKS = ("role", "tool_name", "is_error", "prompt_tokens", "completion_tokens")

# Rows in one batch of `batches`.
SIZE = 1024

Places = np.ndarray[Any, np.dtype[np.int64]]

# The order of arrivals of one id; the first of them stands.
_ARRIVAL = ("arrived_at", "content_digest", "source", "source_line")


def bring(home: Home, workspace: str, progress: Callable[[int, int], None] | None = None) -> LanceDataset:
    """Bring the prepared rows of a workspace up to date with its captures (`derived.bring`)."""
    return derived.bring(home, workspace, ROWS, progress=progress)


def given(dataset: LanceDataset) -> pa.Schema:
    """The columns that can be asked of prepared rows: what is stored, and instead of packed conversations `steps`."""
    stored = dataset.schema
    own = [stored.field(name) for name in stored.names if name not in (_CONVERSATION, _MARKS)]
    return pa.schema([*own, TRAJECTORIES.field("steps")] if _CONVERSATION in stored.names else own)


def light(dataset: LanceDataset, as_of: datetime, columns: Sequence[str] = LIGHT) -> pa.Table:
    """The trajectories that had arrived by `as_of`, one row an id, ordered by id.

    Where an id arrived more than once, the row that arrived first stands: so it never changes.

    Raises:
        FlywheelError: when `as_of` has no time zone, a column is not in the table, or the table is damaged.
    """
    if as_of.tzinfo is None:
        raise FlywheelError(f"{as_of.isoformat()} has no time zone; write it in UTC, as in 2026-01-31T00:00:00Z")
    _check(dataset, columns)
    arrived = f"arrived_at <= timestamp '{as_of.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}'"
    return first_arrivals(_scan(dataset, arriving(columns), arrived), columns)


def arriving(columns: Sequence[str]) -> list[str]:
    """Columns of the table, and those that `first_arrivals` looks at."""
    return list(dict.fromkeys(("id", *_ARRIVAL, *columns)))


def first_arrivals(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Columns of the row of each id that arrived first, ordered by id."""
    with warehouse.connect() as connection:
        connection.register("arrivals", _placed(rows.select(["id", *_ARRIVAL])))
        first = _first(connection, "arrivals", "id")
    return rows.select(list(columns)).take(first.combine_chunks()).combine_chunks()


def positions(dataset: LanceDataset, keys: pa.Table) -> Places:
    """Where rows stand: an offset for `dataset.take` for each of `keys` (id, content_digest), in their order.

    Of equal rows that arrived more than once, the first is taken.

    Raises:
        FlywheelError: when a key is not in the table; the message names the first.
    """
    with warehouse.connect() as connection:
        connection.register("stored", _placed(_scan(dataset, ["id", *_ARRIVAL])))
        connection.register("keys", _placed(keys.select(["id", "content_digest"]), "number"))
        found = _first(connection, "(SELECT * FROM keys LEFT JOIN stored USING (id, content_digest))", "number")
    if found.null_count:
        absent = keys.slice(found.is_null().to_pylist().index(True), 1).to_pylist()[0]
        raise FlywheelError(
            f"trajectory {absent['id']!r} with content {absent['content_digest']} is not in {dataset.uri}; "
            "was its captures file removed?"
        )
    return found.to_numpy()


def batches(dataset: LanceDataset, keys: pa.Table, columns: Sequence[str], size: int = SIZE) -> Iterator[pa.Table]:
    """The rows of `keys` (id, content_digest) in their order, `size` at a time, in columns of the table.

    Raises:
        FlywheelError: when a key or a column is not in the table, or the table is damaged.
    """
    _check(dataset, columns)
    places = positions(dataset, keys)
    quick = scattered(dataset)
    for start in range(0, len(places), size):
        some = places[start : start + size]
        yield placed(quick if sparse(some) else dataset, some, columns)


def placed(dataset: LanceDataset, places: Places, columns: Sequence[str]) -> pa.Table:
    """The rows at some offsets of the table (`positions`), in their order.

    Where they are `sparse`, a `scattered` table is quicker.
    """
    read, order = _at(dataset, places, [_CONVERSATION if name == "steps" else name for name in columns])
    indices = pa.array(order)
    values = [
        packed.unpacked(read[_CONVERSATION], order=order) if name == "steps" else read[name].take(indices)
        for name in columns
    ]
    return pa.table(values, names=list(columns))


def steps(dataset: LanceDataset, places: Places, columns: Sequence[str] = STEP.names) -> pa.Array:
    """Columns of the steps of the rows at some offsets, in their order: a list a row.

    Those of `MARKS` alone are read without what was said; where there are others, they cost no more.
    """
    if set(columns) <= set(MARKS):
        read, order = _at(dataset, places, [f"{_MARKS}.item.{name}" for name in columns])
        return packed.narrowed(read[_MARKS].take(pa.array(order)), columns)
    read, order = _at(dataset, places, [_CONVERSATION])
    return packed.unpacked(read[_CONVERSATION], columns, order)


def conversations(dataset: LanceDataset, places: Places) -> pa.ChunkedArray:
    """The steps of the rows at some offsets, in their order, as they are stored (`packed.PACKED`)."""
    read, order = _at(dataset, places, [_CONVERSATION])
    return read[_CONVERSATION].take(pa.array(order))


def _at(dataset: LanceDataset, places: Places, columns: list[str]) -> tuple[pa.Table, Places]:
    """Columns of the table as they are stored, once for each of some offsets; and where each offset's row stands."""
    # Reading in the order of the file is several times faster than in any other.
    distinct, order = np.unique(places, return_inverse=True)
    with derived.reading(dataset.uri):
        return awake(dataset).take(distinct, columns=columns), order


def _scan(dataset: LanceDataset, columns: list[str], condition: str | None = None) -> pa.Table:
    with derived.reading(dataset.uri):
        return dataset.to_table(columns=columns, filter=condition, scan_in_order=True)


def _check(dataset: LanceDataset, columns: Sequence[str]) -> None:
    names = given(dataset).names
    if unknown := [column for column in columns if column not in names]:
        raise FlywheelError(f"prepared rows have no column {unknown[0]!r}; they have: {', '.join(names)}")


def _first(connection: duckdb.DuckDBPyConnection, relation: str, key: str) -> pa.ChunkedArray:
    """The `place` of the first arrival of each `key` of a relation, in the order of keys.

    The order of arrivals is asked only where a key has several: to compare all of them costs three times as much.
    """
    return connection.sql(
        f"""
        WITH counted AS MATERIALIZED (
            SELECT {key}, any_value(place) AS place, count(*) AS arrivals FROM {relation} GROUP BY {key}
        ),
        firsts AS (
            SELECT {key}, arg_min(place, ({", ".join(_ARRIVAL)}, place)) AS place
            FROM {relation} SEMI JOIN (SELECT {key} FROM counted WHERE arrivals > 1) USING ({key}) GROUP BY {key}
        )
        SELECT coalesce(f.place, c.place) AS place FROM counted AS c LEFT JOIN firsts AS f USING ({key}) ORDER BY {key}
        """
    ).to_arrow_table()["place"]


def _placed(table: pa.Table, name: str = "place") -> pa.Table:
    """A table with the place of each row."""
    return table.append_column(name, pa.array(np.arange(len(table))))


def _prepared(rows: pa.Table) -> pa.Table:
    conversations = rows["steps"]
    own = digests.effects_and_chain(conversations)
    columns = [packed.packed(conversations), packed.narrowed(conversations, MARKS), *own.columns]
    return pa.table([*rows.select(_LIGHT.names).columns, *columns], schema=_SCHEMA)


_GIVEN = tuple(name for name in TRAJECTORIES.names if name not in KEYS.names)

_LIGHT = pa.schema([TRAJECTORIES.field(name) for name in _GIVEN if name != "steps"])

# Compressed a value at a time, so that a row is read at one place of the file, and no other row with it.
_CONVERSATION = "conversation"

_MARKS = "marks"

_SCHEMA = pa.schema(
    [
        *_LIGHT,
        pa.field(_CONVERSATION, packed.PACKED, metadata={"lance-encoding:compression": "fsst"}),
        (_MARKS, packed.kind(MARKS)),
        *digests.SCHEMA,
    ]
)

ROWS = Derivation(
    name="rows",
    recipe="prepared rows 2: every column of captures, steps packed; effects: md5 of canonical calls and states; "
    "chain: sums of md5",
    columns=_GIVEN,
    schema=_SCHEMA,
    compute=_prepared,
)
