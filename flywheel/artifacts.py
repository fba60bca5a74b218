"""Files and folders that are whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.json"


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new name in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file durably: a reader sees the old bytes or the new ones, never some of each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value (records included) as indented JSON, durably."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return msgspec.json.decode(path.read_bytes())


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as one Parquet file, durably."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A folder to fill: it takes its place when the block ends well, and leaves nothing when it does not.

    An older folder of the same name is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    beside.mkdir()
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what interrupted writes left beside their places."""
    if not parent.is_dir():
        return
    for left in parent.iterdir():
        if left.name.startswith(".") and left.suffix in {".tmp", ".old"}:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
