"""Rules: one for each shape that a kind of secret or personal data has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

NEAR = 60  # characters before a value in which the word that `Rule.near` asks for must stand
# What a value may begin after: nothing that belongs to a word, or the escape of a line's end in a quoted text.
START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
NUMBER = r"(?:(?<![\w.+])(?<!\d-)|(?<=\\[nrt]))"
END = r"(?!\w|[.-]\d)"
# Quotes around a name or a value: plain, escaped, or doubled as in CSV.
QUOTE = r"(?:\\{0,3}[\"']){0,2}"


class Pattern(Protocol):
    """A compiled pattern, of the standard library or of RE2."""

    def finditer(self, text: str, /) -> Iterator[Any]: ...


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One shape of a kind: where to look for it, what of it is replaced, and what must hold besides.

    `look` is a pattern of RE2 that every text matches in which the rule finds something: all looks are searched
    for at once, so that a clean text costs one pass. `group` is what is replaced. `near` must be found shortly before
    it, and `valid` has the last word.
    """

    kind: str
    look: str
    pattern: Pattern
    group: int | str = 0
    near: re.Pattern[str] | None = None
    valid: Callable[[Any], bool] | None = None

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where in a text it finds what it looks for, from left to right."""
        for match in self.pattern.finditer(text):
            start, end = match.span(self.group)
            if end <= start:
                continue
            if self.near and not self.near.search(text, max(0, match.start() - NEAR), match.start()):
                continue
            if self.valid is None or self.valid(match):
                yield start, end
