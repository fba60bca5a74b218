"""Answers as they were before they were packed: gzip and deflate as they come, Brotli and Zstandard at the end."""

from __future__ import annotations

import zlib

import pyarrow as pa

LATE = {"br": "brotli", "zstd": "zstd"}
PIECE = 2**16  # bytes


class Unread(Exception):
    """Bytes that cannot be read, and why."""


class Unpacked:
    """Bytes as they were before they were packed, up to `bound` in all."""

    def __init__(self, encoding: str, bound: int) -> None:
        self._encoding, self._bound = encoding.strip().lower(), bound
        self._heard = 0
        self._late = bytearray()
        self._packed = zlib.decompressobj(zlib.MAX_WBITS | 32) if self._encoding in ("gzip", "deflate") else None

    def feed(self, piece: bytes) -> bytes:
        """A piece, unpacked; what can only be unpacked at the end comes with `rest`. Raises Unread."""
        if self._encoding in LATE:
            self._late += self._counted(piece)
            return b""
        if self._packed:
            return self._inflated(self._packed, piece)
        if self._encoding not in ("", "identity"):
            raise Unread(f"packed as {self._encoding!r}, which is not read here")
        return self._counted(piece)

    def rest(self) -> tuple[bytes, str]:
        """What is left when the last piece has come, as far as it can be read; and why the rest of it cannot be."""
        found = bytearray()
        if not self._late:
            return b"", ""
        self._heard = 0
        try:
            with pa.CompressedInputStream(pa.BufferReader(bytes(self._late)), LATE[self._encoding]) as stream:
                while piece := stream.read(PIECE):
                    found += self._counted(piece)
        except (OSError, Unread) as error:
            return bytes(found), str(error) if isinstance(error, Unread) else f"not {self._encoding}: {error}"
        return bytes(found), ""

    def _inflated(self, packed: zlib._Decompress, piece: bytes) -> bytes:
        plain = b""
        try:
            while piece:
                if packed.eof:  # another member
                    packed = self._packed = zlib.decompressobj(zlib.MAX_WBITS | 32)
                plain += self._counted(packed.decompress(piece, self._bound - self._heard + 1))
                piece = packed.unused_data
        except zlib.error as error:
            raise Unread(f"not {self._encoding}: {error}") from error
        return plain

    def _counted(self, piece: bytes) -> bytes:
        self._heard += len(piece)
        if self._heard > self._bound:
            raise Unread(f"longer than {self._bound} bytes")
        return piece
