"""Documents: the records of a large JSON or JSON Lines file, one at a time.

A parser stops at the first error. Here a record is cut out by its brackets and parsed alone, so that a broken one
costs no other. The file is mapped, not read: memory holds one record.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flywheel.schema import FlywheelError

TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:"]', re.S)
BLANK = b" \t\r\n"
BOM = b"\xef\xbb\xbf"


class Piece(msgspec.Struct, frozen=True):
    """A part of a file, from `start` to `end` without the blanks around it, on `line` (from 1).

    `key` is its name where it is an object's member; `cut` tells that the file ends or goes on where it should not.
    """

    source: mmap.mmap
    start: int
    end: int
    line: int
    key: str | None = None
    cut: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of it."""
        return self.source[self.start : self.end]


@contextmanager
def opened(path: Path) -> Iterator[mmap.mmap]:
    """A file mapped for reading."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise FlywheelError(f"{path} is empty: there is nothing to ingest")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def lines(data: mmap.mmap) -> Iterator[Piece]:
    """The lines of a file that are not blank."""
    position, number = len(BOM) if data[:3] == BOM else 0, 0
    while position < len(data):
        newline = data.find(b"\n", position)
        after = len(data) if newline < 0 else newline + 1
        number += 1
        start, end = _stripped(data, position, after)
        if start < end:
            yield Piece(data, start, end, number)
        position = after


def elements(data: mmap.mmap, start: int = 0) -> Iterator[Piece]:
    """The elements of the JSON list, or the members of the JSON object, that begins at `start`.

    What follows the document at the end of the file is a piece that is `cut`.
    """
    counted, line = 0, 1

    def piece(begin: int, end: int, key: str | None, *, cut: bool = False) -> Iterator[Piece]:
        nonlocal counted, line
        begin, end = _stripped(data, begin, end)
        if begin < end:
            line += _newlines(data, counted, begin)
            counted = begin
            yield Piece(data, begin, end, line, key, cut)

    depth, begin, key, name = 0, start, None, b""
    for token in TOKEN.finditer(data, start):
        mark = token.group()
        if mark == b'"':  # a string without an end
            break
        if mark in b"[{":
            depth += 1
            if depth == 1:
                begin = token.end()
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                yield from piece(begin, token.start(), key)
                if start == 0:
                    yield from piece(token.end(), len(data), None, cut=True)
                return
        elif depth == 1 and mark == b",":
            yield from piece(begin, token.start(), key)
            begin, key, name = token.end(), None, b""
        elif depth == 1 and mark == b":":
            begin, key = token.end(), _text(name)
        elif depth == 1:
            name = mark
    yield from piece(begin, len(data), key, cut=True)


def _stripped(data: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """The bounds of a part without the blanks at its ends."""
    while start < end and data[start] in BLANK:
        start += 1
    while start < end and data[end - 1] in BLANK:
        end -= 1
    return start, end


def _newlines(data: mmap.mmap, start: int, end: int) -> int:
    """How many lines end between two places, counted a megabyte at a time."""
    return sum(data[at : min(at + 2**20, end)].count(b"\n") for at in range(start, end, 2**20))


def _text(token: bytes) -> str:
    try:
        return msgspec.json.decode(token, type=str)
    except msgspec.DecodeError:
        return token.decode("utf-8", "replace")
