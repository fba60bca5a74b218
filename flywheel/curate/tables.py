"""A derived table on the disk: one writer at a time, who may die at any moment; reading where files may be damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from flywheel import artifacts
from flywheel.curate.derivation import first_line
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from lance import LanceDataset

# Age in days of no version: only what no version holds is cleaned.
NEVER = timedelta(days=365_000)

# How Lance is asked to read a local file through io_uring.
URING = "file+uring://"

# Names in one deletion.
_NAMES = 1000


def exists(path: Path) -> bool:
    """Whether a table was ever committed: a folder that a first write left unfinished holds no manifest."""
    return any(path.glob("_versions/*.manifest"))


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
            f"the derived table {_place(path)} is missing or damaged ({first_line(error)}); nothing is lost: "
            "it is made again from the captures by `flywheel corpus rebuild`, or on next use when its folder is removed"
        ) from error


def _place(path: Path | str) -> str:
    """Where a table lies, however it was opened."""
    return str(path).removeprefix(URING)


def held(path: Path) -> AbstractContextManager[BinaryIO]:
    """Hold a table against other writers; a holder that dies lets go."""
    return artifacts.held(path.parent / f".{path.stem}.lock")


@contextmanager
def writing(lock: BinaryIO, path: Path) -> Iterator[None]:
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
    settled(lock)


def interrupted(lock: BinaryIO) -> bool:
    """Whether the last writer died, or failed, while it wrote: its files may lie there in no version."""
    lock.seek(0)
    return bool(lock.read(1))


def settled(lock: BinaryIO) -> None:
    lock.truncate(0)


def files(dataset: LanceDataset) -> set[str]:
    """The captures files whose rows a table holds."""
    found: set[str] = set()
    for batch in dataset.scanner(columns=["file"], batch_size=1 << 16).to_batches():
        found.update(batch.column(0).unique().to_pylist())
    return found


def delete(dataset: LanceDataset, files: list[str]) -> None:
    for start in range(0, len(files), _NAMES):
        dataset.delete(f"file IN ({', '.join(map(_text, files[start : start + _NAMES]))})")


def cleaned(dataset: LanceDataset, older_than: timedelta, alone: bool) -> int:
    """Drop old versions, and files that are in none: all where no one else can be writing, else those of last week."""
    return dataset.cleanup_old_versions(
        older_than=older_than, delete_unverified=alone, error_if_tagged_old_versions=False
    ).bytes_removed


def alone(dataset: LanceDataset) -> bool:
    """Whether our lock keeps out all other writers: those of other machines write to an object store, too."""
    return "://" not in dataset.uri


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
