"""Bodies of requests: bounded in size and time, and unpacked before anybody reads them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa
from starlette.types import Message, Receive

from flywheel.server.config import Config
from flywheel.server.errors import Refused

ENCODINGS = ("gzip", "deflate", "zstd")
PIECE = 2**20  # bytes that are unpacked at once
MEMBERS = 100  # gzip files that one body may be made of: each costs time, however small it is


class Body:
    """The body of one request: `receive` stands in for the server's. What is too large or too slow raises `Refused`.

    `encoding` is one of `ENCODINGS`, or nothing; the bound on bytes holds before and after unpacking. `hold` is told
    of bytes that come into memory, and may refuse. `refusal` keeps the error, for whoever reads may swallow it.
    """

    def __init__(
        self, receive: Receive, config: Config, encoding: str, unpacking: asyncio.Semaphore, hold: Callable[[int], None]
    ) -> None:
        self.refusal: Refused | None = None
        self._receive, self._config, self._encoding = receive, config, encoding
        self._unpacking, self._hold = unpacking, hold
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + config.body_s
        self._taken = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next part of the body; once it is whole, whatever the server has to say."""
        if self._whole:
            return await self._receive()
        try:
            return await (self._unpacked() if self._encoding else self._part())
        except Refused as refusal:
            self.refusal = refusal
            raise

    async def _part(self) -> Message:
        """The next part as it came."""
        if self.refusal:
            raise self.refusal
        try:
            async with asyncio.timeout_at(min(self._end, self._loop.time() + self._config.body_idle_s)):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "the body did not arrive in time") from None
        if message["type"] == "http.request":
            part = message.get("body", b"")
            self._taken += len(part)
            if self._taken > self._config.body_bytes:
                raise too_large(self._config)
            self._hold(len(part))
        self._whole = not message.get("more_body", False)
        return message

    async def _unpacked(self) -> Message:
        """The whole body, unpacked."""
        packed = bytearray()
        while not self._whole:
            message = await self._part()
            if message["type"] != "http.request":
                return message
            packed += message.get("body", b"")
        async with self._unpacking:
            body = await asyncio.to_thread(unpacked, self._encoding, bytes(packed), self._config)
        self._hold(len(body))
        return {"type": "http.request", "body": body, "more_body": False}


def unpacked(encoding: str, packed: bytes, config: Config) -> bytes:
    """What was packed; never more than a body may have.

    Raises:
        Refused: when it is more, or cannot be unpacked.
    """
    body = bytearray()
    try:
        for piece in _pieces(encoding, packed):
            body += piece
            if len(body) > config.body_bytes:
                raise too_large(config)
    except (OSError, ValueError, zlib.error) as error:
        raise Refused(400, f"the body cannot be unpacked: it is no whole {encoding}") from error
    return bytes(body)


def too_large(config: Config) -> Refused:
    """What is said of a body that is too large."""
    return Refused(413, f"a body may have {config.body_bytes:,} bytes, packed and unpacked: send it in parts")


def _pieces(encoding: str, packed: bytes) -> Iterator[bytes]:
    if encoding == "zstd":
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            while piece := stream.read(PIECE):
                yield piece
    elif encoding == "gzip":
        yield from _inflated(packed, 31)
    else:
        # By the standard, `deflate` has a header (RFC 1950); some leave it out.
        yield from _inflated(packed, 15 if packed[:1] and packed[0] & 15 == 8 else -15)


def _inflated(packed: bytes, form: int) -> Iterator[bytes]:
    rest = packed
    for _ in range(MEMBERS):
        inflate = zlib.decompressobj(form)
        while not inflate.eof:
            piece = inflate.decompress(rest, PIECE)
            rest = inflate.unconsumed_tail
            if not piece and not rest and not inflate.eof:
                raise ValueError("it ends too early")
            yield piece
        rest = inflate.unused_data
        if not rest:
            return
        if form != 31:
            break
    raise ValueError("something follows its end")
