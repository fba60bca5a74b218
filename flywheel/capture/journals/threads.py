"""Threads: exchanges that go on from one another, each written without what the journal holds of it already."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from concurrent.futures import Future

import msgspec

from flywheel.capture.importers.conversations import digests
from flywheel.capture.journals.events import Exchanged
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.writer import Moved, Writer
from flywheel.capture.redaction import exchanges
from flywheel.capture.redaction.exchanges import State
from flywheel.schema import canonical_json
from flywheel.settings import Home

# How many ends of conversations are kept in memory, and how much of what was redacted in them, in bytes.
TIPS = 50_000
KEPT = 64 * 2**20


class Tip(msgspec.Struct, frozen=True):
    """The end of a conversation: an exchange, in which journal, which of its answers, and what is known there."""

    file: str
    exchange: str
    choice: int
    thread: str
    state: State


class Threads:
    """Writes the exchanges of a workspace, each as what follows the exchange that it goes on from, redacted, and
    without what of a prompt is not kept.

    Known by a digest of all messages are the ends of conversations, in memory alone. What extends one in the writer's
    journal is written as what is new in it; what extends one of a journal before is written whole, with the
    placeholders that it had there; and so is, with new ones, what extends none (a rewritten history, a fork before an
    end, one from before a restart, or from before the workspace's policy changed). Any thread or task may call.
    """

    def __init__(self, home: Home, workspace: str, writer: Writer) -> None:
        self._home, self._workspace, self._writer = home, workspace, writer
        self._lock = threading.Lock()
        self._tips: OrderedDict[bytes, Tip] = OrderedDict()
        self._size = 0

    def put(self, exchange: Exchange) -> Future[Exchange]:
        """Have an exchange written, given as it was: all messages, nothing redacted, `after` None.

        `thread` counts where it is `named`, else the exchange gets the thread of what it goes on from, or its own
        id. The future gives what was written once it is on disk, or raises `journal.Full`.

        Raises:
            FlywheelError: when it cannot be written as JSON, or the writer is closed.
        """
        seed = canonical_json([exchange.thread]).encode() if exchange.named else b""
        chain = digests(exchange.messages, seed)
        ends = [digests(answer, chain[-1] if chain else seed)[-1:] for answer in exchange.answers]
        at, tip = self._found(chain)
        state = exchanges.begin(self._home, self._workspace)
        # Where the policy is another than it was, all is read anew.
        tip = tip if tip and tip.state.redactor.agrees(state.redactor) else None
        state = tip.state if tip else state
        here = tip if tip and tip.file == self._writer.file else None
        clean, states = self._redacted(exchange, at if here else 0, here, state)
        try:
            written = self._writer.put([Exchanged(clean)], into=here.file if here else None)
        except Moved:
            clean, states = self._redacted(exchange, 0, None, state)
            written = self._writer.put([Exchanged(clean)])
        future: Future[Exchange] = Future()
        future.set_running_or_notify_cancel()

        def acknowledged(done: Future[str]) -> None:
            if error := done.exception():
                future.set_exception(error)
                return
            self._remember(done.result(), clean, ends, states)
            future.set_result(clean)

        written.add_done_callback(acknowledged)
        return future

    async def add(self, exchange: Exchange) -> Exchange:
        """As `put`, for a task: returns what was written when it is on disk."""
        return await asyncio.wrap_future(self.put(exchange))

    def _found(self, chain: list[bytes]) -> tuple[int, Tip | None]:
        """How many of the messages an end has, and the end."""
        with self._lock:
            for at in range(len(chain), 0, -1):
                if tip := self._tips.get(chain[at - 1]):
                    self._tips.move_to_end(chain[at - 1])
                    return at, tip
        return 0, None

    def _remember(self, file: str, clean: Exchange, ends: list[list[bytes]], states: list[State]) -> None:
        with self._lock:
            for choice, (end, state) in enumerate(zip(ends, states, strict=True)):
                for digest in end:
                    self._forget(digest)
                    self._tips[digest] = Tip(file, clean.id, choice, clean.thread, state)
                    self._size += state.size
            while len(self._tips) > TIPS or self._size > KEPT:
                self._forget(next(iter(self._tips)))

    def _forget(self, digest: bytes) -> None:
        if tip := self._tips.pop(digest, None):
            self._size -= tip.state.size

    def _redacted(self, exchange: Exchange, at: int, tip: Tip | None, state: State) -> tuple[Exchange, list[State]]:
        """What is to be written of an exchange that goes on from `tip` after `at` messages; a state for each answer."""
        clean, states = exchanges.redacted(self._home, self._workspace, exchange, at, state)
        return msgspec.structs.replace(
            clean,
            thread=clean.thread if clean.named else tip.thread if tip else clean.id,
            after=tip.exchange if tip else None,
            choice=tip.choice if tip else 0,
        ), states
