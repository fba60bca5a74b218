"""Excerpts: the place in an episode that says most of what was searched for, with those words marked."""

from __future__ import annotations

import re
from typing import Any

WORD = re.compile(r"\w+")

# Characters of an excerpt.
WIDTH = 200


def excerpt(steps: list[dict[str, Any]], weights: dict[str, float]) -> str:
    """About `WIDTH` characters of the steps (rows of `schema.STEP`) around the words that weigh most together.

    `weights` are those of words in lower case. The heaviest words are marked as in **refund**. Where none stands in the
    episode, the excerpt is the beginning of what the user said, or of what anyone said.
    """
    found = max((_window(text, weights) for text in _texts(steps)), key=lambda window: window[0], default=(0.0, "", 0))
    weight, text, start = found
    if weight <= 0:
        spoken = [step["content"] for step in steps if step["role"] == "user" and step["content"]]
        return _cut(spoken[0] if spoken else text, 0)
    most = max(weights.values())
    return WORD.sub(lambda m: f"**{m[0]}**" if weights.get(m[0].lower()) == most else m[0], _cut(text, start))


def _texts(steps: list[dict[str, Any]]) -> list[str]:
    """What each step says and calls, without system messages."""
    texts: list[str] = []
    for step in steps:
        if step["role"] != "system":
            called = [f"{call['name']} {call['arguments']}" for call in step["tool_calls"] or ()]
            texts += [text for text in (step["content"], step["reasoning"], *called) if text]
    return texts


def _window(text: str, weights: dict[str, float]) -> tuple[float, str, int]:
    """The most weight of different words within `WIDTH` characters, the text, and where that part begins."""
    met = [(m.start(), m.end(), m[0].lower()) for m in WORD.finditer(text) if m[0].lower() in weights]
    best, start = 0.0, 0
    for place, (begin, _, _) in enumerate(met):
        inside: set[str] = set()
        for _, end, word in met[place:]:
            if end - begin > WIDTH:
                break
            inside.add(word)
        weight = sum(weights[word] for word in sorted(inside))
        if weight > best:
            best, start = weight, begin
    return best, text, start


def _cut(text: str, start: int) -> str:
    """The part of a text from a little before `start` on, from word to word, on one line."""
    before = max(0, start - WIDTH // 8)
    begin = text.find(" ", before, start) + 1 or start if before else 0
    end = begin + WIDTH
    if end < len(text):
        end = max(text.rfind(" ", begin + WIDTH // 2, end), 0) or end
    part = " ".join(text[begin:end].split())
    return f"{'… ' if begin else ''}{part}{' …' if end < len(text) else ''}"
