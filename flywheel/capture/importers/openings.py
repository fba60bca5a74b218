"""Openings: the first questions of sessions whose later records have another in its place."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import msgspec

SESSIONS = 10_000  # first questions that are remembered: a session's records are near each other


class Openings:
    """The first questions of sessions, by what was said after them until the second."""

    def __init__(self) -> None:
        self._asked: OrderedDict[bytes, Any] = OrderedDict()

    def restored(self, turns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
        """The turns with their first question, and what became of it: None (as it was), `restored` or `lost`.

        A first question that is also the last of several stands for another. One that cannot be taken back is left
        empty, so that nothing is trained as an answer to what was not asked.
        """
        asked = [at for at, turn in enumerate(turns) if turn.get("from") == "human"]
        if not asked:
            return turns, None
        first, *later = asked
        until = later[0] if later else len(turns)
        key = hashlib.sha256(msgspec.json.encode(turns[first + 1 : until], order="sorted")).digest()
        value = turns[first].get("value")
        if not later or value != turns[later[-1]].get("value"):
            if not later and until > first + 1:
                self._asked[key] = value
                if len(self._asked) > SESSIONS:
                    self._asked.popitem(last=False)
            return turns, None
        opening = {**turns[first], "value": self._asked.get(key)}
        return [*turns[:first], opening, *turns[first + 1 :]], "restored" if key in self._asked else "lost"
