"""Files and folders that are whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.json"

# What is being written, beside the name it will have: `.NAME.<32 hex digits>.tmp`, or `.old` for what it replaces,
# or `.<32 hex digits>.new` for a file that is written in its place from then on. Its writer holds a lock on it.
BESIDE = re.compile(r"\.(?:(?P<name>.+)\.)?[0-9a-f]{32}\.(?P<kind>tmp|old|new)")

# Where locks lie that cannot lie beside what they are for.
LOCKS = Path(tempfile.gettempdir()) / f"flywheel-{os.getuid()}"

# Seconds: what was made or renamed less than this ago may still be in hand, its lock not taken yet.
FRESH = 1.0


def remote(path: Path) -> bool:
    """Whether a path is on an object store: there an object is whole or absent, durable once written, never renamed."""
    return not isinstance(path, Path)


def fsync_folder(folder: Path) -> None:
    """Make a rename or a new name in a folder durable."""
    if remote(folder):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Make everything below a folder durable, where something else has written it."""
    if remote(root):
        return
    for place in (root, *root.rglob("*")):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file durably: a reader sees the old bytes or the new ones, never some of each.

    One that is `private` is its owner's alone to read.
    """
    if remote(path):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(beside, "wb", opener=partial(os.open, mode=0o600 if private else 0o666)) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any, *, new: bool = False) -> None:
    """Write a value (records included) as indented JSON, durably. Under the file's lock, `new` says that none is there.

    Raises:
        FileExistsError: when it is `new`, and on an object store another machine wrote it meanwhile.
    """
    data = msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n"
    if new and remote(path):
        try:
            path.fs.pipe_file(str(path), data, mode="create")  # pyright: ignore[reportAttributeAccessIssue]  # a UPath
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} is there already") from error
            raise
    else:
        write_bytes(path, data)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return msgspec.json.decode(path.read_bytes())


def source(path: Path) -> Path | BinaryIO:
    """A file for pyarrow, which opens those of this machine itself."""
    return path.open("rb") if remote(path) else path


def remove(path: Path) -> None:
    """Remove a folder and what is in it, as far as it is there."""
    if not remote(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.fs.rm(str(path), recursive=True)  # pyright: ignore[reportAttributeAccessIssue]  # a UPath


@contextmanager
def held(path: Path) -> Iterator[BinaryIO]:
    """Hold a file's lock against other processes of this machine; a holder that dies lets go.

    An object store has no locks: the file is then one of the user's on this machine, and other machines do not see it.
    """
    if remote(path):
        path = LOCKS / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    lock = os.open(beside, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
        os.close(lock)
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder below `root` that is gone when the block ends, and that `sweep` clears when the process is killed."""
    root.mkdir(parents=True, exist_ok=True)
    place = root / f".scratch.{uuid.uuid4().hex}.tmp"
    place.mkdir()
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(lock)
        shutil.rmtree(place, ignore_errors=True)


def sweep(root: Path) -> None:
    """Clear what interrupted writes left anywhere below a folder; what living writers are writing stays.

    What a replacement had moved aside goes back where nothing had taken its place yet.
    """
    if remote(root):
        return
    for folder, folders, files in os.walk(root):
        for found in [*folders, *files]:
            match = BESIDE.fullmatch(found)
            if match and _left(left := Path(folder) / found):
                place = left.with_name(match["name"]) if match["name"] else None
                if match["kind"] == "old" and place and not place.exists():
                    left.rename(place)
                elif left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
        folders[:] = [name for name in folders if not BESIDE.fullmatch(name)]


def _left(path: Path) -> bool:
    """Whether a file or folder was left by a writer that is no more."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return time.time() - os.fstat(descriptor).st_ctime > FRESH
    finally:
        os.close(descriptor)
