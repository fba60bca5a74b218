"""Segments: immutable Arrow files that hold what was made of conversations, found by content and read in place."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.schema import FlywheelError

SUFFIX = ".arrow"
# A segment that takes the place of others, which it names.
MERGED = f".merged{SUFFIX}"
_REPLACES = b"replaces"

# Segments smaller than so many bytes are merged, so many of about one size at a time.
SMALL = 8 << 20
MERGED_AT_ONCE = 8

# How often a folder is read anew where others change it meanwhile.
ATTEMPTS = 20

# Where a row lies: which of the files, and which row of it.
PLACES = pa.schema([("segment", pa.int32()), ("row", pa.int64())])

Read = TypeVar("Read")


class Removed(FlywheelError):
    """A segment is not there any more: merged with others, or erased."""


def files(folder: Path) -> list[Path]:
    """The segments of a folder, in name order; none where there is no such folder."""
    found = _all(folder)
    # A listing that a merge falls into may hold neither what was merged nor what it became.
    while (again := _all(folder)) != found:
        found = again
    replaced = _replaced(found)
    return [path for path in found if path.name not in replaced]


def steadily(folder: Path, read: Callable[[list[Path]], Read]) -> tuple[list[Path], Read]:
    """The segments of a folder and what `read` makes of them; begun anew when one is merged meanwhile."""
    for _ in range(ATTEMPTS - 1):
        paths = files(folder)
        with suppress(Removed):
            return paths, read(paths)
    paths = files(folder)
    return paths, read(paths)


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def _replaced(found: Sequence[Path]) -> set[str]:
    """The names of segments that others have taken the place of, whether they have gone already or not."""
    names: set[str] = set()
    for path in found:
        if path.name.endswith(MERGED):
            with suppress(Removed):
                names.update(json.loads((opened(path).schema.metadata or {})[_REPLACES]))
    return names


def opened(path: Path) -> pa.RecordBatch:
    """The rows of a segment, mapped into memory: what is not touched is not read.

    Raises:
        FlywheelError: when it is damaged; `Removed` when it is not there.
    """
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).get_batch(0)
    except FileNotFoundError as error:
        raise Removed(f"the segment {path} has been removed meanwhile; open the stream anew") from error
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise FlywheelError(
            f"the segment {path} is damaged ({str(error).splitlines()[0]}); remove it, and what it held is made again"
        ) from error


def write(folder: Path, table: pa.Table, replaces: Sequence[Path] = ()) -> Path:
    """Write rows as one segment, uncompressed and in one batch, whole or not at all. It is named by its content.

    From the moment that it is there, those that it `replaces` are not read any more.
    """
    names = {_REPLACES: json.dumps([path.name for path in replaces]).encode()} if replaces else None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema.with_metadata(names)) as file:
        file.write_table(table.combine_chunks().replace_schema_metadata(names), max_chunksize=max(table.num_rows, 1))
    data = sink.getvalue()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:24]}{MERGED if replaces else SUFFIX}"
    if not path.exists():
        artifacts.write_bytes(path, data.to_pybytes())
    return path


def merge(folder: Path) -> int:
    """Merge small segments where there are many of about one size; how many went. The folder must be held.

    A conversation lies in one segment that is read at any moment, wherever this is killed: a merged one stands for
    the others as soon as it is there, and the next who holds the folder removes what a killed merge left of those.
    """
    gone = 0
    while some := _alike(files(folder)):
        write(folder, pa.concat_tables(pa.Table.from_batches([opened(path)]) for path in some), replaces=some)
        for path in some:
            path.unlink()
        gone += len(some)
    artifacts.fsync_folder(folder)
    return gone


def _alike(paths: Sequence[Path]) -> list[Path]:
    """The smallest segments of about one size (the same power of `MERGED_AT_ONCE`), if there are enough."""
    tiers: defaultdict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if (size := path.stat().st_size) < SMALL:
            tiers[int(math.log(size, MERGED_AT_ONCE))].append(path)
    enough = [tier for tier in sorted(tiers) if len(tiers[tier]) >= MERGED_AT_ONCE]
    return tiers[enough[0]][:MERGED_AT_ONCE] if enough else []


def index(paths: Sequence[Path], schema: pa.Schema) -> pa.Table:
    """Some columns of all rows of some segments, with the `PLACES` where they lie."""
    found: list[pa.Table] = []
    for number, path in enumerate(paths):
        batch = opened(path)
        places = [pa.repeat(pa.scalar(number, pa.int32()), batch.num_rows), pa.array(np.arange(batch.num_rows))]
        columns = [batch.column(name) for name in schema.names]
        found.append(pa.Table.from_arrays([*columns, *places], schema=pa.schema([*schema, *PLACES])))
    return pa.concat_tables(found) if found else pa.schema([*schema, *PLACES]).empty_table()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of segments for writing, and clear what a killed writer left; another writer waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        flock(file, LOCK_EX)
        artifacts.sweep(folder)
        for name in _replaced(_all(folder)):
            (folder / name).unlink(missing_ok=True)
        yield


def erase(folder: Path, digests: Collection[str]) -> int:
    """Remove all rows of some conversations, by their content digests; how many rows went.

    A segment that held one goes, and is written anew without it. Who has it mapped reads it until he lets go.
    """
    gone = 0
    with locked(folder), warehouse.connect() as connection:
        connection.register("gone", pa.table({"content_digest": pa.array(sorted(digests), pa.string())}))
        for path in files(folder):
            table = pa.Table.from_batches([opened(path)])
            keys = table.select(["content_digest"]).append_column("row", pa.array(np.arange(table.num_rows)))
            connection.register("held", keys)
            kept = connection.sql(
                "SELECT row FROM held ANTI JOIN gone USING (content_digest) ORDER BY row"
            ).to_arrow_table()["row"]
            if len(kept) < table.num_rows:
                gone += table.num_rows - len(kept)
                # In this order a crash may lose rows, which are made again; never does one lie there twice.
                rest = table.take(kept)
                path.unlink()
                if len(rest):
                    write(folder, rest)
        artifacts.fsync_folder(folder)
    return gone
