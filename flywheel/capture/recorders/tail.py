"""Tails: journals that are read as they grow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from flywheel.capture.journals import journal
from flywheel.capture.journals.events import DECODER, UNREADABLE, Began, Ended, Said, Told, Whole
from flywheel.capture.journals.unfinished import Unfinished
from flywheel.schema import Outcome, Trajectory

CHUNK = 8 * 2**20  # bytes that are read at once


class Tail:
    """A journal that is read as it grows: what ended in it, in order, and what goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: dict[str, Unfinished] = {}
        self.ended: set[str] = set()
        self.torn: list[bytes] = []
        self._at = 0
        self._last = 0, b""  # size and digest of the line that ends there

    def records(self, *, dead: bool) -> Iterator[Trajectory | Outcome]:
        """What ended since it was last asked; of a dead writer's, all there is."""
        with self.path.open("rb") as file:
            size, digest = self._last
            file.seek(self._at - size)
            if _digest(file.read(size)) != digest and self._at:
                # What a disk did not take was cut off again, or an erasure came: it is read anew, and known by its ids.
                self._at, self.open, self.torn = 0, {}, []
            file.seek(self._at)
            while lines := file.readlines(CHUNK):
                for line in lines:
                    if not line.endswith(b"\n") and not dead:
                        return
                    self._at += len(line)
                    self._last = len(line), _digest(line)
                    if line.strip() and not journal.erased(line):
                        yield from self._event(line)

    def left(self) -> Iterator[Trajectory]:
        """What a dead writer left without an end, as it stands."""
        for unfinished in self.open.values():
            yield unfinished.so_far

    def _event(self, line: bytes) -> Iterator[Trajectory | Outcome]:
        try:
            event = DECODER.decode(line)
        except UNREADABLE:
            self.torn.append(line)
            return
        if isinstance(event, Whole):
            self.ended.add(event.trajectory.id)
            yield event.trajectory
        elif isinstance(event, Told):
            yield event.outcome
        elif isinstance(event, Began):
            self.open[event.trajectory.id] = Unfinished(event.trajectory)
        elif isinstance(event, Said | Ended) and event.id in self.open:
            if ended := self.open[event.id].take(event):
                del self.open[event.id]
                self.ended.add(event.id)
                yield ended
        else:
            self.torn.append(line)


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
