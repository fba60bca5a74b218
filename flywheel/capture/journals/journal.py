"""Journals: one append-only file of JSON lines a writer, each line on disk before the call that wrote it returns."""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flywheel import artifacts
from flywheel.capture.journals.events import Event, decoded, encoded
from flywheel.schema import FlywheelError

# A journal that has grown past this many bytes gives way to a new one, so that it can be settled away.
ROTATE = 16 * 2**20
# Beside the journals: which trajectory has which answer of theirs.
SETTLED = "settled.json"


class Full(FlywheelError):
    """The disk cannot take it; nothing of it was recorded. It may be tried again."""


class Torn(msgspec.Struct, frozen=True):
    """A line that is no event: where it stands (from 1), what was wrong, and its bytes."""

    line: int
    error: str
    data: bytes


class Journal:
    """A writer's own file in a folder; its lock is held while the writer lives, so that a dead one can be told.

    A fork gives up its parent's journals: the lock stays with the parent alone.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = name or uuid.uuid4().hex
        hidden, self.path = folder / f".{name}.new", folder / f"{name}.jsonl"
        self.size = 0
        self.broken = False
        try:
            self._file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            # Called by hand, or when the last user of this journal is gone: the lock goes with the file.
            self.close = weakref.finalize(self, os.close, self._file)
            _OPEN.add(self)
            # Locked before it has its name: whoever sees the file sees a living writer.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            hidden.rename(self.path)
            artifacts.fsync_folder(folder)
        except OSError as error:
            for left in (hidden, self.path):
                left.unlink(missing_ok=True)
            raise Full(f"nothing of this was recorded: {self.path} cannot be written ({error})") from error

    def write(self, events: Sequence[Event], *, sync: bool = True) -> None:
        """Append events, one line each; with `sync` they are on disk on return. All are written, or none."""
        self.append(encoded(events), sync=sync)

    def append(self, data: bytes, *, sync: bool = True) -> None:
        """Append lines as `write` does.

        Raises:
            Full: when the disk cannot take them; the file ends where it ended before. After a flush that failed it is
                `broken` and takes nothing more: the kernel tells of pages that it lost once only, so a later flush
                proves nothing of them. What was flushed before stands.
        """
        if self.broken:
            raise Full(f"nothing of this was recorded: {self.path} was given up when the disk failed; begin another")
        flushing = False
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            flushing = True
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self.broken = flushing or not self._cut()
            if flushing:
                self._cut()
            raise Full(f"nothing of this was recorded: {self.path} cannot be written ({error})") from error
        self.size += len(data)

    def sync(self) -> None:
        """Make everything written so far durable."""
        try:
            os.fsync(self._file)
        except OSError as error:
            self.broken = True
            raise Full(f"what was written last to {self.path} may be lost ({error})") from error

    def _cut(self) -> bool:
        """Take back what was written beyond the last good end; whether that could be done."""
        try:
            os.ftruncate(self._file, self.size)
        except OSError:
            return False
        return True


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave() -> None:
    for journal in list(_OPEN):
        journal.close()


os.register_at_fork(after_in_child=_leave)


def paths(folder: Path) -> list[Path]:
    """The journals in a folder, in name order."""
    return sorted(folder.glob("*.jsonl"))


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether a journal's writer is gone; if so, no other process can claim it within the block."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def erased(line: bytes) -> bool:
    """Whether a line was erased: overwritten with spaces, from its beginning on."""
    return line.startswith(b" ")


def erase(path: Path, gone: Callable[[bytes], bool]) -> int:
    """Overwrite lines in their place, also under a living writer, who only appends; how many that were.

    One whose overwriting was interrupted is known by the space that it begins with, and is brought to its end.
    """
    count = 0
    with claimed(path) as dead, path.open("r+b") as file:
        at = 0
        *lines, tail = file.read().split(b"\n")
        # What has no end yet may still be being written.
        for line in [*lines, tail] if dead else lines:
            if line.strip(b" ") and (erased(line) or gone(line)):
                file.seek(at)
                file.write(b" " * len(line))
                count += 1
            at += len(line) + 1
        file.flush()
        os.fsync(file.fileno())
    return count


def lines(path: Path) -> tuple[list[tuple[int, int, bytes]], bytes, int]:
    """The lines of a journal that were not erased, each with its number (from 1) and where it begins; what has no end
    yet; and how many were erased."""
    *whole, tail = path.read_bytes().split(b"\n")
    found: list[tuple[int, int, bytes]] = []
    at = gone = 0
    for number, line in enumerate(whole, 1):
        if erased(line):
            gone += 1
        else:
            found.append((number, at, line))
        at += len(line) + 1
    return found, b"" if erased(tail) else tail, gone


def read(path: Path) -> tuple[list[tuple[int, Event]], list[Torn]]:
    """The events of a journal with their line numbers (from 1), and the lines that are none.

    A crash can tear the last line; a damaged disk, any. Erased lines are passed over.
    """
    events: list[tuple[int, Event]] = []
    torn: list[Torn] = []
    whole, tail, _ = lines(path)
    for number, _, line in whole:
        event = decoded(line)
        if isinstance(event, str):
            torn.append(Torn(number, event, line))
        else:
            events.append((number, event))
    if tail:
        torn.append(cut_off(whole, tail))
    return events, torn


def cut_off(whole: Sequence[tuple[int, int, bytes]], tail: bytes) -> Torn:
    """What has no end, after the lines that have one."""
    return Torn(whole[-1][0] + 1 if whole else 1, "the line was cut off", tail)
