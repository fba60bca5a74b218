"""Tool calls of one trajectory: every call gets an id of its own, and every result the id of the call it answers."""

from __future__ import annotations

from collections import Counter

from flywheel.schema import ToolCall


class Calls:
    """Pairs calls and results in order.

    Real logs repeat a call's id within one trajectory: the second gets `#2` after its id, and so on. A call without
    an id is named by its number.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._made = 0
        self._waiting: list[tuple[str, ToolCall]] = []
        self._names: dict[str, str] = {}

    def made(self, id: str | None, name: str, arguments: str) -> ToolCall:
        """A call as the agent made it."""
        source = id or f"call_{self._made}"
        self._made += 1
        self._seen[source] += 1
        number = self._seen[source]
        call = ToolCall(id=source if number == 1 else f"{source}#{number}", name=name, arguments=arguments)
        self._waiting.append((source, call))
        self._names[source] = name
        return call

    def answered(self, id: str | None, name: str | None) -> tuple[str | None, str | None]:
        """Id and tool of the call that a result answers: the first to wait under this id, of this name, or at all."""
        for waiting in self._waiting:
            source, call = waiting
            if source == id if id else name in (None, call.name):
                self._waiting.remove(waiting)
                return call.id, call.name
        return id, name or self._names.get(id or "")
