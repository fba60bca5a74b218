"""Limits: how much one client and all together may ask of the server, before any route sees a request."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.server import bodies
from flywheel.server.bodies import Body
from flywheel.server.errors import Refused, answer
from flywheel.server.running import CLIENTS, Running

KEYS = (b"x-flywheel-token", b"authorization", b"x-api-key", b"api-key")
CUT = (b"content-encoding", b"content-length", b"transfer-encoding")


class Limits:
    """Turns down what is too much: requests of one client (429), of all (503), bodies by their size, pace and form.

    A client is known by the token that it sends once that was let through, else by its address: who makes tokens up has
    no more than who sends none. Answers pass as they come; of a body, routes see what it unpacks to.
    """

    def __init__(self, app: ASGIApp, running: Running, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.config = app, running.config
        self._running = running
        config = running.config
        self._rates = Rates(config.requests_per_s, config.burst, clock)
        self._held = 0
        self._unpacking = asyncio.Semaphore(4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = self._client(scope)
        try:
            encoding = self._checked(scope, client)
        except Refused as refusal:
            await _answer(refusal, scope, receive, send)
            return
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > self.config.held_bytes:
                raise Refused(503, "the server holds too many bodies just now", retry_after_s=1)
            held += size
            self._held += size

        if encoding:
            # Routes see the request as if its body had never been packed.
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in CUT]
        body = Body(receive, self.config, encoding, self._unpacking, hold)
        started = replaced = False

        async def sent(message: Message) -> None:
            nonlocal started, replaced
            if body.refusal and not started:
                # Whatever a route made of an error that its body raised: this is what is wrong.
                started = replaced = True
                await _answer(body.refusal, scope, receive, send)
            started = True
            if not replaced:
                await send(message)

        self._running.under_way[client] += 1
        try:
            await self.app(scope, body.receive, sent)
        finally:
            self._held -= held
            self._running.under_way[client] -= 1
            if not self._running.under_way[client]:
                del self._running.under_way[client]

    def _client(self, scope: Scope) -> bytes:
        """By what a client is known; keys are not kept."""
        given = {name: value for name, value in scope["headers"] if name in KEYS}
        if given:
            token = hashlib.sha256(b"\n".join(given[name] for name in KEYS if name in given)).digest()
            scope["flywheel.client"] = token
            if token in self._running.known:
                return token
        return (scope.get("client") or ("",))[0].encode()

    def _checked(self, scope: Scope, client: bytes) -> str:
        """How the body is packed.

        Raises:
            Refused: for a request that goes no further.
        """
        config = self.config
        if wait := self._rates.wait(client):
            raise Refused(429, f"more than {config.requests_per_s:g} requests a second", retry_after_s=wait)
        if self._running.under_way[client] >= config.concurrent_each:
            raise Refused(429, f"{config.concurrent_each} requests of yours are under way", retry_after_s=1)
        if self._running.under_way.total() >= config.concurrent:
            raise Refused(503, "the server has too many requests under way", retry_after_s=1)
        headers = dict(scope["headers"])
        if int(headers.get(b"content-length", b"0")) > config.body_bytes:
            raise bodies.too_large(config)
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if encoding in ("", "identity"):
            return ""
        if encoding not in bodies.ENCODINGS:
            raise Refused(415, f"Content-Encoding is one of {', '.join(bodies.ENCODINGS)}, or left out")
        return encoding


class Rates:
    """A bucket of tokens a client: `burst` at once, `per_s` anew each second."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def wait(self, client: bytes) -> float:
        """Take one; 0 when there was one, else the seconds until there is."""
        now = self._clock()
        left, at = self._left.pop(client, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_s)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_s
        self._left[client] = (left if wait else left - 1, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return wait


async def _answer(refusal: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    id = scope.get("flywheel.request", "")
    made = answer(refusal.status, str(refusal), id, retry_after_s=refusal.retry_after_s)
    await made(scope, receive, send)
