"""Segments: immutable Arrow files that hold what was made of conversations, found by content and read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

import numpy as np
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.schema import FlywheelError

SUFFIX = ".arrow"

# Where a row lies: which of the files, and which row of it.
PLACES = pa.schema([("segment", pa.int32()), ("row", pa.int64())])


def files(folder: Path) -> list[Path]:
    """The segments of a folder, in name order; none where there is no such folder."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"))


def opened(path: Path) -> pa.RecordBatch:
    """The rows of a segment, mapped into memory: what is not touched is not read.

    Raises:
        FlywheelError: when it is damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).get_batch(0)
    except FileNotFoundError as error:
        raise FlywheelError(f"the segment {path} has been removed meanwhile; open the stream anew") from error
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise FlywheelError(
            f"the segment {path} is damaged ({str(error).splitlines()[0]}); remove it, and what it held is made again"
        ) from error


def write(folder: Path, table: pa.Table) -> Path:
    """Write rows as one segment, uncompressed and in one batch, whole or not at all. It is named by its content."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))
    data = sink.getvalue()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:24]}{SUFFIX}"
    if not path.exists():
        artifacts.write_bytes(path, data.to_pybytes())
    return path


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
