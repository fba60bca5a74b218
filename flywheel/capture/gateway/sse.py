"""Server-sent events, read from the pieces in which they come: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

import re
from typing import NamedTuple

BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")
LINES = re.compile(rb"\r\n|\n|\r")
LONGEST = 4  # bytes of a blank line


class Event(NamedTuple):
    """One event: its type (empty where none was named), its data, and where in the piece that ended it it begins.

    `at` is 0 where it began in an earlier piece.
    """

    type: bytes
    data: bytes
    at: int = 0


class Events:
    """Reads a stream piece by piece; an event is there with the blank line that ends it. What has no data is left out.

    `bound` is how many bytes of an event without an end are kept: past it the stream is `broken`, and gives no more.
    """

    def __init__(self, bound: int) -> None:
        self._waiting = bytearray()
        self._bound = bound
        self.broken = False

    def feed(self, piece: bytes) -> list[Event]:
        """The events that a piece ends."""
        if self.broken:
            return []
        before = len(self._waiting)
        # What came before has no blank line, but may end in the beginning of one.
        searched = max(0, before - LONGEST)
        if before and not BLANK.search(self._waiting[searched:] + piece):
            self._keep(piece)
            return []
        data = bytes(self._waiting) + piece if before else piece
        events: list[Event] = []
        start = 0
        while found := BLANK.search(data, max(start, searched)):
            if event := _event(data[start : found.start()], max(0, start - before)):
                events.append(event)
            start = found.end()
        self._waiting.clear()
        self._keep(data[start:])
        return events

    def last(self) -> list[Event]:
        """The event that the end of the stream left without its blank line."""
        event = _event(bytes(self._waiting), 0)
        self._waiting.clear()
        return [event] if event else []

    def _keep(self, piece: bytes) -> None:
        self._waiting += piece
        if len(self._waiting) > self._bound:
            self.broken = True
            self._waiting.clear()


def _event(block: bytes, at: int) -> Event | None:
    if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:  # nearly all of them
        return Event(b"", block[6:], at)
    type, data = b"", []
    for line in LINES.split(block.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            type = value
    return Event(type, b"\n".join(data), at) if data else None
