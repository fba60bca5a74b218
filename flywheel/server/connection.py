"""Connections: uvicorn's, with bounds on headers and on how long a client may keep one waiting."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from flywheel.server.config import Config
from flywheel.server.errors import answer

# Files that a server asks for, where the system sets no bound below.
FILES = 65_536


class Connection(HttpToolsProtocol):
    """One connection. `settings` is set by `with_settings`.

    Headers are bounded in size (431) and time (408), an answer that nobody reads and a body that goes on after its
    answer in time: they are cut off. Half of the files that a process may have open are for connections: further ones
    are closed (503), so that what came by the others can be written.
    """

    settings: Config
    most: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._status = 400
        self._headers_at = 0  # bytes of the headers that are read
        self._silent = 0  # bytes that came since the parser told of anything: of a header that has no end yet
        self._reading = False
        self._answering: RequestResponseCycle | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for headers."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503)
            return
        self._set("headers", self.settings.header_s, lambda: self._refuse(408))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        for timer in self._timers.values():
            timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._silent += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._silent > self.settings.header_bytes:
            self._refuse(431)
        elif self.timeout_keep_alive_task is None and self._idle():
            # Uvicorn stopped the clock for these bytes, and they began nothing.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def eof_received(self) -> None:
        """The client sends nothing more; with that the connection closes."""
        self._leave()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        # A request to speak another protocol is answered in this one.
        pass

    def on_message_begin(self) -> None:
        """A request begins; its headers must follow in time."""
        super().on_message_begin()
        self._headers_at = self._silent = 0
        self._reading = True
        self._set("headers", self.settings.header_s, lambda: self._refuse(408))

    def on_url(self, url: bytes) -> None:
        """Part of the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one that follows a body: such are left out."""
        self._count(len(name) + len(value or b""))
        if self._reading:
            super().on_header(name, value or b"")

    def on_headers_complete(self) -> None:
        """The request is passed on."""
        self._silent = 0
        self._reading = False
        self._unset("headers")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body."""
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body has ended."""
        self._silent = 0
        self._unset("lingering")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; the rest of a body may follow for a while, else the client could not read it."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._set("lingering", self.settings.header_s, self.transport.close)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._set("writing", self.settings.write_s, self._abandon)

    def resume_writing(self) -> None:
        """It has read."""
        self._unset("writing")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, in the shape of all errors, and close."""
        status, self._status = self._status, 400
        self._refuse(status)

    def _idle(self) -> bool:
        """Whether it waits for a request, of which nothing has come."""
        answered = self.cycle is not None and self.cycle.response_complete and not self.cycle.more_body
        return answered and not self._reading and not self.pipeline

    def _count(self, size: int) -> None:
        self._silent = 0
        self._headers_at += size
        if self._headers_at > self.settings.header_bytes:
            self._status = 431
            raise httptools.HttpParserError("headers too large")

    def _refuse(self, status: int) -> None:
        """Answer with an error, where an answer has its place, and close."""
        if self.transport.is_closing():
            return
        # In the middle of an answer there is no place for another.
        if self._answering is None or self._answering.response_complete or not self._answering.response_started:
            made = answer(status, REFUSED[status])
            head = "".join(f"{name}: {value}\r\n" for name, value in made.headers.items())
            self.transport.write(STATUS_LINE[status] + f"{head}connection: close\r\n\r\n".encode() + bytes(made.body))
        self._leave()
        self.transport.close()

    def _abandon(self) -> None:
        """Give up on a client that does not read."""
        self._leave()
        self.transport.abort()

    def _leave(self) -> None:
        """Let the route that still answers know that nobody hears it."""
        if self._answering and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
            self.flow.resume_writing()

    def _set(self, name: str, seconds: float, then: Callable[[], None]) -> None:
        self._unset(name)
        self._timers[name] = self.loop.call_later(seconds, then)

    def _unset(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()


REFUSED = {
    400: "this is no HTTP request",
    408: "the headers did not arrive in time",
    431: "the headers are too large",
    503: "the server has too many connections",
}


def with_settings(config: Config) -> type[Connection]:
    """The kind of connection that holds to the limits of a configuration."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = (FILES if files == resource.RLIM_INFINITY else files) // 2
    return type("Connection", (Connection,), {"settings": config, "most": most})
