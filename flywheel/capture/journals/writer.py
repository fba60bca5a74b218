"""Group commit: many callers, one file, and one flush for all that came while the last one ran."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Self

import msgspec

from flywheel.capture import workspaces
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Event, encoded
from flywheel.capture.journals.journal import Full, Journal
from flywheel.schema import FlywheelError
from flywheel.settings import Home

# Seconds after which a journal gives way to a new one, however small: settling can remove only what nobody writes.
ROTATE_AGE = 3600.0


class Moved(Exception):
    """Another journal has begun since; nothing was written."""


class Put(msgspec.Struct, frozen=True):
    """Lines that wait to be written, the journal that they go to, and who waits for them."""

    name: str
    data: bytes
    future: Future[str]


class Writer:
    """Writes events of one workspace, redacted already, from any number of threads or tasks of one process.

    A thread of its own writes and flushes; what is put while it does is flushed together. A journal that is full or
    old (`journal.ROTATE`, `ROTATE_AGE`), or that a disk failed under, gives way to a new one with what is put next,
    so what one `put` holds stands in one file; one that is not `rotating` is given up only when the disk fails. After
    a fork the child begins anew, with what it is given itself.
    """

    def __init__(self, home: Home, workspace: str, *, rotating: bool = True) -> None:
        workspaces.require(home, workspace)
        self._rotating = rotating
        self._folder = home.journals / workspace
        self._fresh()
        _WRITERS.add(self)

    @property
    def file(self) -> str:
        """The name of the journal that what is put now goes to, unless it is full or old."""
        return f"{self._name}.jsonl"

    @property
    def size(self) -> int:
        """Bytes of its journal, those included that wait to be written."""
        return self._size

    @property
    def old(self) -> bool:
        """Whether its journal has grown so large or so old that it should give way to a new one."""
        return self._size > journal.ROTATE or time.monotonic() - self._began > ROTATE_AGE

    def put(self, events: Sequence[Event], *, into: str | None = None) -> Future[str]:
        """Have events written, all or none.

        The future gives the name of their journal once they are on disk, or raises `Full` when the disk cannot take
        them. It cannot be cancelled: what was put will be written. `into` is the journal that they must go to.

        Raises:
            Moved: when `into` has given way to another journal.
            FlywheelError: when they cannot be written as JSON, or the writer is closed.
        """
        data = encoded(events)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._closed:
                raise FlywheelError("nothing of this was recorded: the writer is closed")
            if self._rotating and self.old:
                self._begin()
            if into not in (None, self.file):
                raise Moved(into)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"journal {self._folder.name}", daemon=True)
                self._thread.start()
            self._waiting.append(Put(self.file, data, future))
            self._size += len(data)
            self._changed.notify()
        return future

    async def write(self, events: Sequence[Event], *, into: str | None = None) -> str:
        """As `put`, for a task: returns when the events are on disk."""
        return await asyncio.wrap_future(self.put(events, into=into))

    def rotate(self) -> None:
        """Have what is put from now on go to a new journal."""
        with self._changed:
            self._begin()
            self._changed.notify()

    def close(self) -> None:
        """Write what waits and give up the journal, so that it can be settled away; nothing can be put any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fresh(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Put] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._name, self._size, self._began = uuid.uuid4().hex, 0, time.monotonic()

    def _run(self) -> None:
        held: Journal | None = None
        while batch := self._batch(held):
            if held and held.path.name != batch[0].name:
                held.close()
                held = None
            try:
                held = held or Journal(self._folder, batch[0].name.removesuffix(".jsonl"))
                held.append(b"".join(put.data for put in batch))
            except Exception as error:
                if held is None or held.broken:
                    batch += self._given_up(batch[0].name)
                for put in batch:
                    put.future.set_exception(Full(str(error)))
            else:
                for put in batch:
                    put.future.set_result(put.name)
        if held:
            held.close()

    def _batch(self, held: Journal | None) -> list[Put]:
        """What waits and goes to one journal, waiting for it; nothing once the writer is closed."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                left = self._began + ROTATE_AGE - time.monotonic() if self._rotating else threading.TIMEOUT_MAX
                if held and left <= 0:
                    self._begin()
                if held and held.path.name != self.file:
                    held.close()
                    held = None
                self._changed.wait(left if held else None)
            name = self._waiting[0].name
            batch = []
            while self._waiting and self._waiting[0].name == name:
                batch.append(self._waiting.popleft())
            return batch

    def _given_up(self, name: str) -> list[Put]:
        """What waits for a journal that was given up: it cannot go elsewhere, for it may go on from what is there."""
        with self._changed:
            if self.file == name:
                self._begin()
            lost = [put for put in self._waiting if put.name == name]
            self._waiting = deque(put for put in self._waiting if put.name != name)
            return lost


_WRITERS: weakref.WeakSet[Writer] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_WRITERS):
        writer._fresh()


os.register_at_fork(after_in_child=_after_fork)
