"""Deltas: the parts in which a chat message comes, put together."""

from __future__ import annotations

from typing import Any

from flywheel.capture.gateway import interface
from flywheel.capture.gateway.interface import count, text
from flywheel.capture.importers import dialects

# Members of a delta that say again what it was said before, rather than go on with it.
REPEATED = frozenset({"role", "id", "type", "object", "index", "format", "expires_at"})
# What may be a text or parts, and which parts go on from one another.
PARTS, MERGED = frozenset({"content", "thinking"}), frozenset({"text", "thinking"})


class Calls:
    """The calls of one choice, from parts that may come in any order."""

    def __init__(self) -> None:
        self._made: list[tuple[int, int, dict[str, Any]]] = []  # by index, then in order of coming

    def take(self, parts: list[dict[str, Any]]) -> None:
        """Take in parts."""
        for delta in parts:
            call = self._call(delta)
            if delta.get("id"):
                call["id"] = delta["id"]
            merge(call, {k: v for k, v in delta.items() if k not in ("id", "index", "function")})
            function = delta.get("function")
            if isinstance(function, dict):
                into = call.setdefault("function", {"name": "", "arguments": ""})
                name, arguments = text(function.get("name")), function.get("arguments")
                if name != into["name"]:  # some repeat it with every part
                    into["name"] += name
                if arguments is not None:
                    into["arguments"] += dialects.as_text(arguments)

    def made(self) -> list[dict[str, Any]]:
        """The calls so far, in order."""
        return [call for _, _, call in sorted(self._made, key=lambda made: made[:2])]

    def _call(self, delta: dict[str, Any]) -> dict[str, Any]:
        """The call that a part goes on with. Under one index, another id is another call (as Ollama has it)."""
        id, index = delta.get("id"), count(delta.get("index"))
        for at, _, call in reversed(self._made):
            if (index is None or at == index) and (call.get("id") in (None, id) if id else not _another(call, delta)):
                return call
        call: dict[str, Any] = {}
        self._made.append((len(self._made) if index is None else index, len(self._made), call))
        return call


def _another(call: dict[str, Any], delta: dict[str, Any]) -> bool:
    """Whether a part without an id begins another call (as Gemini has it): it has a name, and what came was whole."""
    before, after = interface.within(call, "function"), interface.within(delta, "function")
    if not before.get("name") or not after.get("name"):
        return False
    other = "index" not in delta and after["name"] != before["name"]
    return other or (bool(after.get("arguments")) and isinstance(dialects.decoded(before["arguments"]), dict))


def merge(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Go on with what was said: texts and lists are lengthened, objects merged, the rest replaced."""
    for key, value in delta.items():
        old = into.get(key)
        if value is None:
            continue
        if key in PARTS and old and {type(old), type(value)} in ({list}, {list, str}):
            into[key] = _longer(old, value)
        elif isinstance(old, str) and isinstance(value, str) and key not in REPEATED:
            into[key] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            old += value
        elif isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        elif isinstance(value, list):
            into[key] = list(value)
        elif isinstance(value, dict):
            into[key] = {}
            merge(into[key], value)
        else:
            into[key] = value


def _longer(old: str | list[Any], value: str | list[Any]) -> list[Any]:
    """Parts of a message, or its text, with what goes on from them: now as a text, now as parts (as Mistral has it)."""
    parts, more = ([{"type": "text", "text": v}] if isinstance(v, str) else v for v in (old, value))
    for part in more:
        last = parts[-1] if parts else None
        if isinstance(last, dict) and isinstance(part, dict) and last.get("type") == part.get("type") in MERGED:
            merge(last, part)
        else:
            parts = [*parts, part]
    return parts
