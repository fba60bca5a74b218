"""Documents: the records of a large JSON or JSON Lines file, one at a time.

A parser stops at the first error. Here a record is cut out by its brackets and parsed alone, so that a broken one
costs no other. The file is mapped, not read: memory holds one record. A gzip file is unpacked to a nameless file first.
"""

from __future__ import annotations

import mmap
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from flywheel.schema import FlywheelError

TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:"]', re.S)
Data = mmap.mmap | bytes
RECORD, AFTER = re.compile(rb"\n(\{[^\n]*\})[ \t\r]*(?=\n|\Z)"), re.compile(rb"\s*(\S)")
BLANK = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
# What a gzip file may unpack to: this many times its size, and small ones this many bytes. Logs stay below 100 times;
# a file made to fill a disk comes near 1,000.
EXPANSION, ALLOWANCE = 200, 2**26


class Piece(msgspec.Struct, frozen=True):
    """A part of a file, from `start` to `end` without the blanks around it, on `line` (from 1).

    `key` is its name where it is an object's member; `cut` tells that the file ends or goes on where it should not.
    """

    source: Data
    start: int
    end: int
    line: int
    key: str | None = None
    cut: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of it."""
        return self.source[self.start : self.end]


class Aside:
    """Values that are set by in a nameless file, while another is read: memory holds where they lie."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the block

    def put(self, value: bytes) -> tuple[int, int]:
        """Set a value by; where it lies."""
        return self._file.seek(0, 2), self._file.write(value)

    def get(self, place: tuple[int, int]) -> bytes:
        """The value that lies there."""
        self._file.seek(place[0])
        return self._file.read(place[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Unreadable(FlywheelError):
    """A file of which nothing can be read, whatever its format."""


class Torn(FlywheelError):
    """A gzip file that is damaged or cut off; what it held before that was read."""


@contextmanager
def opened(path: Path) -> Iterator[mmap.mmap]:
    """A file mapped for reading, gzip unpacked.

    Raises:
        Unreadable: where it is empty, unpacks to nothing or to too much.
        Torn: where a gzip file breaks off, once the block is done with what it held before.
    """
    torn: str | None = None
    with path.open("rb") as packed, tempfile.TemporaryFile() as unpacked:
        file: IO[bytes] = packed
        if packed.peek(2)[:2] == GZIP:
            torn = _unpack(path, packed, unpacked)
            file = unpacked
        if file.seek(0, 2) == 0:
            if torn:
                raise Unreadable(f"{path} is gzip that cannot be unpacked: {torn}. Run `gzip -t` on it")
            raise Unreadable(f"{path} is empty: there is nothing to ingest")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield data
        finally:
            with suppress(BufferError):  # a generator that nobody finished holds on to it, until it is gone
                data.close()
    if torn:
        raise Torn(f"{path} is gzip that breaks off: {torn}. What stands before that was read; run `gzip -t` on it")


def head(path: Path, size: int) -> bytes:
    """The first bytes of a file, unpacked where it is gzip; fewer where that breaks off."""
    with path.open("rb") as file:
        if file.peek(2)[:2] != GZIP:
            return file.read(size)
        found = b""
        try:
            for block in _blocks(file):
                found += block
                if len(found) >= size:
                    break
        except (EOFError, zlib.error) as error:
            if not found:
                raise Unreadable(f"{path} is gzip that cannot be unpacked: {error}. Run `gzip -t` on it") from error
        return found[:size]


def _unpack(path: Path, packed: IO[bytes], unpacked: IO[bytes]) -> str | None:
    """Unpack a gzip file; what is wrong with it, where it breaks off."""
    allowed = max(ALLOWANCE, EXPANSION * path.stat().st_size)
    torn = None
    try:
        for block in _blocks(packed):
            unpacked.write(block)
            if unpacked.tell() > allowed:
                raise Unreadable(f"{path} unpacks to more than {allowed:,} bytes: unpack it yourself to ingest it")
    except (EOFError, zlib.error) as error:
        torn = str(error)
    unpacked.flush()
    return torn


def _blocks(packed: IO[bytes], size: int = 2**20) -> Iterator[bytes]:
    """What gzip members one after another unpack to. Raises EOFError or zlib.error where they break off."""
    data = b""
    while True:
        while not data:
            if not (data := packed.read(size)):
                return
            data = data.lstrip(b"\0")  # zeros may follow a member, to fill a block of a tape
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not data and not (data := packed.read(size)):
                raise EOFError("it ends within a member")
            before = member.copy()
            try:
                block = member.decompress(data, size)
            except zlib.error:
                yield _until_error(before, data)
                raise
            data = member.unconsumed_tail
            if block:
                yield block
        data = member.unused_data.lstrip(b"\0")


def _until_error(member: Any, data: bytes) -> bytes:
    """What a damaged part still unpacks to: byte by byte, since an error takes with it all that was given at once."""
    found = []
    try:
        for at in range(len(data)):
            found.append(member.decompress(data[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(found)


def records(data: Data) -> Iterator[Piece]:
    """The records of a file that is a JSON list of them, one JSON object over several lines, or JSON Lines."""
    start = len(BOM) if data[:3] == BOM else 0
    rows = lines(data)
    first, second = next(rows, None), next(rows, None)
    if first is None:
        return iter(())
    listed = first.data.startswith(b"[")
    alone = first.data.startswith(b"{") and second and not second.data.startswith(b"{") and not _whole(first.data)
    # Where a line is a record by itself, what stands before it is a broken line.
    if (listed or alone) and _has_records(data):
        return lines(data)
    if listed:
        return elements(data)
    if alone:
        return iter([Piece(data, first.start, _stripped(data, start, len(data))[1], first.line)])
    return lines(data)


def lines(data: Data) -> Iterator[Piece]:
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


def elements(data: Data, start: int = 0) -> Iterator[Piece]:
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
    # Where the document has no end: also when it breaks off between two records, and nothing is left of the next.
    yield from list(piece(begin, len(data), key, cut=True)) or [Piece(data, len(data), len(data), line, key, True)]


def _stripped(data: Data, start: int, end: int) -> tuple[int, int]:
    """The bounds of a part without the blanks at its ends."""
    while start < end and data[start] in BLANK:
        start += 1
    while start < end and data[end - 1] in BLANK:
        end -= 1
    return start, end


def _has_records(data: Data) -> bool:
    """Whether a line after the first is a whole object by itself: not indented, and no element of a list."""
    for found in RECORD.finditer(data):
        after = AFTER.match(data, found.end())
        if not (after and after[1] in b",]}") and _whole(found[1]):
            return True
    return False


def _whole(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _newlines(data: Data, start: int, end: int) -> int:
    """How many lines end between two places, counted a megabyte at a time."""
    return sum(data[at : min(at + 2**20, end)].count(b"\n") for at in range(start, end, 2**20))


def _text(token: bytes) -> str:
    try:
        return msgspec.json.decode(token, type=str)
    except ValueError:
        return token.decode("utf-8", "replace")
