"""What a running server holds: the data folder, its settings, the writers of its workspaces, and a client's session."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Self, TypeVar

import duckdb
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from flywheel.capture.journals.writer import Writer
from flywheel.capture.recorders.recorder import utc_now
from flywheel.server.config import Config
from flywheel.server.errors import Refused
from flywheel.settings import Home

if TYPE_CHECKING:
    from aiohttp import ClientSession

Found = TypeVar("Found")

READERS = 4  # questions to the tables at a time: each uses all processors
TAKERS = 2  # large bodies that are parsed at a time: what one becomes in memory can be many times its size
LARGE = 2**20  # bytes
CLIENTS = 4096  # clients that are remembered, those who asked last
LAST_S = 5.0  # for what was broken off


class Running:
    """One server's state, while its block lasts; routes get it by `Depends(running)`.

    `session` is for calls to other servers: it passes bytes on as they come, with no bound on their number or time.
    """

    session: ClientSession

    def __init__(self, home: Home, config: Config, clock: Callable[[], datetime] = utc_now) -> None:
        self.home, self.config, self.clock = home, config, clock
        self.under_way: Counter[bytes] = Counter()  # requests, by client
        self.known: OrderedDict[bytes, None] = OrderedDict()  # clients whose token was let through
        self.reading = asyncio.Semaphore(READERS)
        self._taking = asyncio.Semaphore(TAKERS)
        self._writers: dict[str, Writer] = {}
        self._lock = threading.Lock()

    def knows(self, client: bytes) -> None:
        """Remember a client whose token was let through."""
        self.known[client] = None
        self.known.move_to_end(client)
        if len(self.known) > CLIENTS:
            self.known.popitem(last=False)

    def writer(self, workspace: str) -> Writer:
        """The writer of a workspace: one for all that write to it here."""
        with self._lock:
            if workspace not in self._writers:
                self._writers[workspace] = Writer(self.home, workspace)
            return self._writers[workspace]

    async def parse(self, body: bytes, made: Callable[[], Found]) -> Found:
        """What is made of a body, in a thread; small ones wait for nobody."""
        async with self._taking if len(body) > LARGE else nullcontext():
            return await run_in_threadpool(made)

    async def read(self, ask: Callable[[], Found]) -> Found:
        """What the tables answer, asked in a thread.

        Raises:
            Refused: when files are gone that were there just now: an erasure writes them anew.
        """
        async with self.reading:
            try:
                return await run_in_threadpool(ask)
            except duckdb.IOException as error:
                raise Refused(503, "rows are being erased just now", retry_after_s=5) from error

    async def __aenter__(self) -> Self:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        self.session = ClientSession(
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            timeout=ClientTimeout(total=None, sock_connect=30),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session, then the writers: what was put is on disk, and can be settled.

        Requests that were broken off have a moment to put down what they have.
        """
        end = time.monotonic() + LAST_S
        while self.under_way and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await self.session.close()
        with self._lock:
            writers, self._writers = list(self._writers.values()), {}
        await asyncio.gather(*(asyncio.to_thread(writer.close) for writer in writers))


def running(request: Request) -> Running:
    """The state of the server that a request came to."""
    return request.app.state.running
