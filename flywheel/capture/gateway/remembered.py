"""Responses and conversations that later requests may go on from by their id: in memory, the latest ones."""

from __future__ import annotations

import threading
from collections import OrderedDict

from flywheel.capture.importers.dialects import Message


class Remembered:
    """Keeps what was said up to each response and in it, without instructions, up to `bound` bytes; oldest go first.

    Any thread may call.
    """

    def __init__(self, bound: int = 64 * 2**20) -> None:
        self._held: OrderedDict[str, tuple[list[Message], int]] = OrderedDict()
        self._bound, self._size = bound, 0
        self._lock = threading.Lock()

    def add(self, id: str, messages: list[Message], size: int) -> None:
        """Remember a response, or how far a conversation has come.

        `size` is about how many bytes it takes beyond the responses before it.
        """
        with self._lock:
            self._size += size
            self._held[id] = (messages, size + self._held.pop(id, ([], 0))[1])
            while self._size > self._bound:
                _, (_, gone) = self._held.popitem(last=False)
                self._size -= gone

    def messages(self, id: str) -> list[Message] | None:
        """What was said up to a response and in it; None where it is not known, or not any more."""
        found = self._held.get(id)
        return found[0] if found else None
