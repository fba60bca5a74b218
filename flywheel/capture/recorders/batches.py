"""Batches: blocks whose calls are waited for once, at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar


class Batch:
    """What one thread writes within a block.

    Threads and tasks that the block began know of it too, and may outlive it: they wait for themselves.
    """

    def __init__(self) -> None:
        self._owner = _here()
        self._pending: list[Future[str]] | None = []

    @property
    def here(self) -> bool:
        """Whether this is the block, which goes on."""
        return self._pending is not None and self._owner == _here()

    def takes(self, written: Future[str]) -> bool:
        """Whether the block waits for it."""
        if self._pending is None or not self.here:
            return False
        self._pending.append(written)
        return True

    def wait(self) -> None:
        """End the block: return when all is on disk. What a fork inherited is its parent's to write."""
        pending, self._pending = self._pending or [], None
        for written in pending if self._owner == _here() else ():
            written.result()


# The batches that this thread or task is in, by whose they are.
_AROUND: ContextVar[Mapping[object, Batch]] = ContextVar("flywheel batches")


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


@contextmanager
def batch(of: object) -> Iterator[None]:
    """A block at whose end is waited for what is written for `of`; within another such block it changes nothing."""
    around = _AROUND.get({})
    if of in around and around[of].here:
        yield
        return
    made = Batch()
    token = _AROUND.set({**around, of: made})
    try:
        yield
    finally:
        # Fixtures and frameworks may leave it in another context than they entered it: there it ends by itself.
        with suppress(ValueError):
            _AROUND.reset(token)
        made.wait()


def takes(of: object, written: Future[str]) -> bool:
    """Whether a block around this waits for what is written for `of`."""
    around = _AROUND.get({})
    return of in around and around[of].takes(written)
