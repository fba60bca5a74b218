"""Journals: one append-only file of JSON lines a writer, each line on disk before the call that wrote it returns."""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from flywheel import artifacts
from flywheel.schema import EndState, FlywheelError, Outcome, Step, Trajectory


class Began(msgspec.Struct, frozen=True, tag_field="event", tag="began"):
    """A trajectory begins: all that is known of it but its steps."""

    trajectory: Trajectory


class Said(msgspec.Struct, frozen=True, tag_field="event", tag="said"):
    """A step was taken."""

    id: str
    at: datetime
    step: Step


class Ended(msgspec.Struct, frozen=True, tag_field="event", tag="ended"):
    """A trajectory is over; `error` is the exception that ended a failed one."""

    id: str
    at: datetime
    state: EndState
    error: str = ""


class Whole(msgspec.Struct, frozen=True, tag_field="event", tag="whole"):
    """A complete trajectory in one line."""

    trajectory: Trajectory


class Told(msgspec.Struct, frozen=True, tag_field="event", tag="told"):
    """An outcome became known."""

    outcome: Outcome


Event = Began | Said | Ended | Whole | Told
DECODER = msgspec.json.Decoder(Event)


class Torn(msgspec.Struct, frozen=True):
    """A line that is no event: where it stands (from 1), what was wrong, and its bytes."""

    line: int
    error: str
    data: bytes


class Journal:
    """A writer's own file in a folder; its lock is held while the writer lives, so that a dead one can be told."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        hidden, self.path = folder / f".{name}.new", folder / f"{name}.jsonl"
        self._file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        # Locked before it has its name: whoever sees the file sees a living writer.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        hidden.rename(self.path)
        artifacts.fsync_folder(folder)
        self.size = 0
        # Called by hand, or when the last user of this journal is gone: the lock goes with the file.
        self.close = weakref.finalize(self, os.close, self._file)

    def write(self, events: Sequence[Event], *, sync: bool = True) -> None:
        """Append events, one line each; with `sync` they are on disk on return. All are written, or none."""
        data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if sync:
                os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self.size)
            raise FlywheelError(f"nothing of this was recorded: {self.path} cannot be written ({error})") from error
        self.size += len(data)

    def sync(self) -> None:
        """Make everything written so far durable."""
        os.fsync(self._file)


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


def read(path: Path) -> tuple[list[tuple[int, Event]], list[Torn]]:
    """The events of a journal with their line numbers (from 1), and the lines that are none.

    A crash can tear the last line; a damaged disk, any. Erased lines are passed over.
    """
    events: list[tuple[int, Event]] = []
    torn: list[Torn] = []
    *lines, tail = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if erased(line):
            continue
        try:
            events.append((number, DECODER.decode(line)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            torn.append(Torn(number, str(error), line))
    if tail and not erased(tail):
        torn.append(Torn(len(lines) + 1, "the line was cut off", tail))
    return events, torn
