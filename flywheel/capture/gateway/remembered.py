"""Responses, their items, and conversations that later requests may name by their id: in memory, the latest ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import msgspec

from flywheel.capture.importers.dialects import Message

REFERENCE = "item_reference"


class Remembered:
    """Keeps what was said up to each response and in it, without instructions, up to `bound` bytes; oldest go first.

    Any thread may call.
    """

    def __init__(self, bound: int = 64 * 2**20) -> None:
        self._held: OrderedDict[str, tuple[list[Any], int]] = OrderedDict()
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

    def add_items(self, items: dict[str, dict[str, Any]]) -> None:
        """Remember the items of a response by their ids."""
        for id, item in items.items():
            self.add(f"{REFERENCE} {id}", [item], len(msgspec.json.encode(item)))

    def told(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request with the items that it only refers to; those that are not known stay references."""
        given = body.get("input")
        if not isinstance(given, list) or not any(map(_refers, given)):
            return body
        found = [(self.messages(f"{REFERENCE} {i.get('id')}") or [i])[0] if _refers(i) else i for i in given]
        return {**body, "input": found}


def _refers(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == REFERENCE
