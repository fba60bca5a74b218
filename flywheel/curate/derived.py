"""Derived tables: what is computed from the content of captured rows, once a row, kept in Lance file by file."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from flywheel import artifacts, warehouse
from flywheel.curate.derivation import Computed, Derivation, first_line, rows_of
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

# Where rows are computed: in this process, or by the workers of a Ray cluster.
Engine = Literal["local", "ray"]

# The file format; a newer one is a decision, not a side effect of an upgrade.
DATA_STORAGE_VERSION = "2.1"

# Bytes of Parquet in one commit: many small arrivals become few fragments, and a kill loses at most so much work.
GROUP_BYTES = 512 << 20

# Bytes of Parquet in one task of a cluster.
TASK_BYTES = 32 << 20

# Fragments of fewer rows are merged by `compact`; a full one is never rewritten.
FRAGMENT_ROWS = 1 << 17

# Age in days of no version: only what no version holds is cleaned.
_NEVER = timedelta(days=365_000)

# Of Linux, on every architecture: a call's number, and the feature that came with the operations that Lance uses.
_IO_URING_SETUP = 425
_RW_CUR_POS = 1 << 3

# Names in one deletion.
_NAMES = 1000


def folder(home: Home, workspace: str, derivation: Derivation) -> Path:
    """Where a derived table of a workspace lies."""
    return home.derived / workspace / f"{derivation.table}.lance"


def bring(
    home: Home,
    workspace: str,
    derivation: Derivation,
    *,
    engine: Engine = "local",
    progress: Callable[[int, int], None] | None = None,
) -> LanceDataset:
    """Bring a derived table up to date with the captures, and open it; where there are no captures it is empty.

    Rows of captures files that are not in it are computed and appended, several files a commit; rows of files that
    are gone are deleted. Each commit holds whole files, so a killed run goes on where it stopped, and two runs at once
    take turns. Memory does not grow with the captures. `progress` is told the rows done and all rows to do. By every
    `engine` the table holds the same rows in the same order.

    Raises:
        FlywheelError: when the table is damaged or cannot be written, or `compute` breaks its contract.
    """
    import lance

    path = folder(home, workspace, derivation)
    with _held(path) as lock:
        if not _exists(path):
            # What lies there in no version is a first write's that was killed; on an object store another machine's.
            if not artifacts.remote(path):
                artifacts.remove(path)
            with _writing(lock, path):
                lance.write_dataset(
                    derivation.rows.empty_table(), str(path), mode="create", data_storage_version=DATA_STORAGE_VERSION
                )
        with reading(path):
            dataset = lance.dataset(str(path))
            if _interrupted(lock):
                _cleaned(dataset, _NEVER, _alone(dataset))
                _settled(lock)
            present = _files(dataset)
        captured = {file.name: file for file in warehouse.files(home.captures, workspace)}
        gone = sorted(present - captured.keys())
        if gone:
            with _writing(lock, path):
                _delete(dataset, gone)
        missing = [(file, rows) for name, file in captured.items() if name not in present and (rows := rows_of(file))]
        told = _teller(sum(rows for _, rows in missing), progress)
        groups = list(_groups([file for file, _ in missing], GROUP_BYTES))
        if engine == "ray" and groups:
            with _writing(lock, path):
                _append_by_ray(dataset, derivation, path, groups, told)
            return opened(home, workspace, derivation)
        for group in groups:
            computed = Computed(derivation, group, told)
            with _writing(lock, path):
                try:
                    lance.write_dataset(computed.reader(), dataset, mode="append")
                except (OSError, ValueError, RuntimeError) as error:
                    raise computed.error or error from None
        return opened(home, workspace, derivation)


def fragments(derivation: Derivation, path: Path, files: list[Path]) -> tuple[list[FragmentMetadata], int]:
    """The derived rows of captures files, written as fragments that no version of the table holds yet; and their count.

    Raises:
        FlywheelError: when the table or a file is not there, or a file is damaged.
    """
    from lance.fragment import write_fragments

    if not _exists(path):
        raise FlywheelError(
            f"the data folder is not seen here, on {platform.node()}: {path} is not there; share the folder"
        )
    counted = 0

    def told(rows: int) -> None:
        nonlocal counted
        counted += rows

    computed = Computed(derivation, files, told)
    try:
        made = write_fragments(computed.reader(), str(path), mode="append", data_storage_version=DATA_STORAGE_VERSION)
    except (OSError, ValueError, RuntimeError) as error:
        raise computed.error or error from None
    return made, counted


def opened(home: Home, workspace: str, derivation: Derivation) -> LanceDataset:
    """A derived table as it stands.

    Raises:
        FlywheelError: when it was never brought, or cannot be opened.
    """
    import lance

    path = folder(home, workspace, derivation)
    if not _exists(path):
        raise FlywheelError(f"nothing has been derived yet for workspace {workspace!r}: {path} is not there; bring it")
    with reading(path):
        return lance.dataset(str(path))


def scattered(dataset: LanceDataset) -> LanceDataset:
    """The same state of a table, opened to take rows from all over it.

    On a disk of Linux it asks for them through io_uring: a thousand rows cost a third of the CPU of as many calls.
    """
    import lance

    if "://" in dataset.uri or not _uring():
        return dataset
    with reading(dataset.uri):
        return lance.dataset(f"file+uring://{dataset.uri}", version=dataset.version)


@cache
def _uring() -> bool:
    """Whether the kernel lets us read through io_uring (from 5.6 on; containers may forbid it)."""
    if sys.platform != "linux":
        return False
    asked = struct.Struct("5I I 24I")
    given = ctypes.create_string_buffer(asked.size)
    descriptor = ctypes.CDLL(None).syscall(_IO_URING_SETUP, 1, given)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return bool(asked.unpack(given.raw)[5] & _RW_CUR_POS)


def remake(
    home: Home,
    workspace: str,
    derivation: Derivation,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LanceDataset:
    """Delete a derived table, damaged or not, and bring it again from the captures."""
    path = folder(home, workspace, derivation)
    with _held(path) as lock:
        # A table without versions does not exist: killed from here on, the next `bring` begins anew.
        artifacts.remove(path / "_versions")
        artifacts.remove(path)
        _settled(lock)
    return bring(home, workspace, derivation, progress=progress)


def compact(home: Home, workspace: str, derivation: Derivation, older_than: timedelta) -> int:
    """Merge the small fragments of a derived table and drop its Lance versions older than given; bytes reclaimed.

    A reader of a version that is dropped loses its files: leave those young that a reader may still be reading.

    Raises:
        FlywheelError: when the table was never brought, or is damaged.
    """
    path = folder(home, workspace, derivation)
    with _held(path) as lock:
        dataset = opened(home, workspace, derivation)
        with reading(path), _writing(lock, path):
            return _compacted(dataset, older_than, _alone(dataset))


def purge(path: Path, files: Collection[str]) -> None:
    """Delete the rows of captures files (their names) from a derived table of any recipe, and every byte of them.

    All older states of the table go: whoever is reading one must open the table anew. So does what another machine is
    just writing to it on an object store. A table that is damaged goes whole; it is made again from the captures.
    """
    import lance

    with _held(path) as lock:
        try:
            with reading(path), _writing(lock, path):
                dataset = lance.dataset(str(path))
                _delete(dataset, sorted(_files(dataset).intersection(files)))
                _compacted(dataset, timedelta(0), alone=True)
        except FlywheelError:
            artifacts.remove(path / "_versions")
            artifacts.remove(path)
            _settled(lock)


def _delete(dataset: LanceDataset, files: list[str]) -> None:
    for start in range(0, len(files), _NAMES):
        dataset.delete(f"file IN ({', '.join(map(_text, files[start : start + _NAMES]))})")


def _compacted(dataset: LanceDataset, older_than: timedelta, alone: bool) -> int:
    # Deleted rows leave the disk, be they ever so few: someone may have asked to be forgotten.
    dataset.optimize.compact_files(
        target_rows_per_fragment=FRAGMENT_ROWS,
        materialize_deletions_threshold=0.0,
        batch_size=1024,
        num_threads=1,
    )
    return _cleaned(dataset, older_than, alone)


def _cleaned(dataset: LanceDataset, older_than: timedelta, alone: bool) -> int:
    """Drop old versions, and files that are in none: all where no one else can be writing, else those of last week."""
    return dataset.cleanup_old_versions(
        older_than=older_than, delete_unverified=alone, error_if_tagged_old_versions=False
    ).bytes_removed


def _alone(dataset: LanceDataset) -> bool:
    """Whether our lock keeps out all other writers: those of other machines write to an object store, too."""
    return "://" not in dataset.uri


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """What goes wrong while a derived table is read, as an error that says what to do.

    Raises:
        FlywheelError: when a file of the table is missing or damaged.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise FlywheelError(
            f"the derived table {path} is missing or damaged ({first_line(error)}); nothing is lost: "
            "it is made again from the captures by `flywheel corpus rebuild`, or on next use when its folder is removed"
        ) from error


def _append_by_ray(
    dataset: LanceDataset, derivation: Derivation, path: Path, groups: list[list[Path]], told: Callable[[int], None]
) -> None:
    """Append the rows of captures files, a commit for each group, as a cluster computes them."""
    from lance import LanceDataset, LanceOperation

    from flywheel.curate import cluster

    parts = [list(_groups(group, TASK_BYTES)) for group in groups]
    for made in cluster.fragments(derivation, path, parts, told):
        # Beside them other workers are writing: of the folder only these are made durable.
        for file in (file for fragment in made for file in fragment.files):
            if not (path / "data" / file.path).exists():
                raise FlywheelError(f"a worker wrote to a folder {path} of its own; share the data folder among nodes")
            artifacts.fsync_tree(path / "data" / file.path)
        dataset = LanceDataset.commit(dataset, LanceOperation.Append(made), read_version=dataset.version)
        artifacts.fsync_tree(path / "_versions")


def _groups(files: list[Path], most: int) -> Iterator[list[Path]]:
    """Files in their order, as many at a time as so many bytes hold, at least one."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > most:
            yield group
            group, size = [], 0
        group.append(file)
        size += more
    if group:
        yield group


def _files(dataset: LanceDataset) -> set[str]:
    """The captures files whose rows a table holds."""
    found: set[str] = set()
    for batch in dataset.scanner(columns=["file"], batch_size=1 << 16).to_batches():
        found.update(batch.column(0).unique().to_pylist())
    return found


def _held(path: Path) -> AbstractContextManager[BinaryIO]:
    """Hold a table against other writers; a holder that dies lets go."""
    return artifacts.held(path.parent / f".{path.stem}.lock")


@contextmanager
def _writing(lock: BinaryIO, path: Path) -> Iterator[None]:
    """Write to a table under its lock: on the disk when this ends, marked in the lock's file while it lasts."""
    lock.truncate(0)
    lock.write(b"writing")
    lock.flush()
    try:
        yield
        artifacts.fsync_tree(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise FlywheelError(
            f"the derived table {path} could not be written ({first_line(error)}); what it held before stands: "
            "mend the cause, and run this again"
        ) from error
    _settled(lock)


def _interrupted(lock: BinaryIO) -> bool:
    """Whether the last writer died, or failed, while it wrote: its files may lie there in no version."""
    lock.seek(0)
    return bool(lock.read(1))


def _settled(lock: BinaryIO) -> None:
    lock.truncate(0)


def _exists(path: Path) -> bool:
    """Whether a table was ever committed: a folder that a first write left unfinished holds no manifest."""
    return any(path.glob("_versions/*.manifest"))


def _teller(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Counts rows towards a total, and tells `progress` of both."""
    done = 0

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, total)

    return told


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
