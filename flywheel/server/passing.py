"""The way of an answer from a model's server to the client, piece by piece, and what is listened to on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from flywheel.capture.gateway.calls import Call
from flywheel.schema import FlywheelError
from flywheel.server.errors import Refused
from flywheel.server.upstreams import Asking, Away, Reply, Upstream

log = logging.getLogger("flywheel.server")

Keep = Callable[[str], Awaitable[None]]  # has a call on disk; it is told what broke it off


class Way:
    """The way of an answer to its client."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.begun = False
        self._receive, self._send = receive, send

    async def begin(self, reply: Reply) -> None:
        """Hand the status and the headers on."""
        self.begun = True
        await self._send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})

    async def send(self, reply: Reply, piece: bytes) -> None:
        """Hand a piece on; it waits while the client is slow."""
        if not self.begun:
            await self.begin(reply)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, reply: Reply) -> None:
        """Say that the answer is whole."""
        if not self.begun:
            await self.begin(reply)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """A block that is left with ClientDisconnect as soon as the client goes away."""
        task, left = asyncio.current_task(), False
        assert task

        def leave(_: object) -> None:
            nonlocal left
            left = True
            task.cancel()

        watch = asyncio.create_task(self._gone())
        watch.add_done_callback(leave)
        try:
            yield
        except asyncio.CancelledError:
            if left and not task.uncancel():
                raise ClientDisconnect from None
            raise
        finally:
            watch.remove_done_callback(leave)
            watch.cancel()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def passed(upstream: Upstream, asking: Asking, way: Way) -> None:
    """Pass an answer on, and keep nothing of it."""
    try:
        async with way.attended():
            reply = await upstream.ask(asking)
    except Away as away:
        raise Refused(502, str(away)) from away
    try:
        await _rest(reply, way)
    finally:
        reply.close()


async def captured(upstream: Upstream, asking: Asking, way: Way, call: Call, keep: Keep) -> None:
    """Pass an answer on; its end comes when the call is on disk.

    Raises:
        Refused: when the upstream gives no answer.
        Full: when the disk could not take it, and nothing of the answer has been passed on.
    """
    reply, held, away = None, b"", None
    try:
        async with way.attended():
            reply = await upstream.ask(asking)
            call.began(reply.status, reply.header(b"content-type"), reply.header(b"content-encoding"))
            if call.streams:
                await way.begin(reply)
            while piece := await reply.piece():
                end = call.feed(piece)
                if not call.streams:  # the last piece of a plain body is held back
                    held, piece = piece, held
                elif end is not None:
                    held, piece = piece[end:], piece[:end]
                if piece:
                    await way.send(reply, piece)
                if end is not None:
                    break
    except Away as error:
        away = error
    except BaseException as error:
        if reply:
            reply.close()
        await keep("the client went away" if isinstance(error, ClientDisconnect) else "the server was stopped")
        raise
    try:
        await keep(str(away) if away else "")
        if away and not way.begun:
            raise Refused(502, str(away))
        if reply and held:
            await way.send(reply, held)
        if reply and not away:
            await _rest(reply, way)
    except FlywheelError as error:
        if not way.begun:
            raise
        # Without its end the client can tell that something is wrong with the answer.
        log.error("an answer was cut off before its end: %s", error)
    finally:
        if reply:
            reply.close()


async def _rest(reply: Reply, way: Way) -> None:
    """Pass on what is left of an answer, and its end, if it has one."""
    try:
        async with way.attended():
            while piece := await reply.piece():
                await way.send(reply, piece)
    except Away as away:
        if not way.begun:
            raise Refused(502, str(away)) from away
        log.warning("an answer broke off: %s", away)
        return
    await way.end(reply)
