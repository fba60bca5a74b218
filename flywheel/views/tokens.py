"""Text as tokens, with a digit on each that says whether it lies within given bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

# Where a stretch of text begins and ends, in characters.
Bounds = tuple[int, int]


def masked(tokenizer: Any, text: str, bounds: list[Bounds]) -> tuple[list[int], list[int]]:
    """Token ids of the text, and 1 for each token that lies within bounds."""
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        mask = _mask(encoded["offset_mapping"], bounds)
        if mask is not None:
            return list(encoded["input_ids"]), mask
    # A token that spans a bound would be half the prompt's and half the assistant's. A model that writes the turn
    # begins with a token of its own, so the parts are tokenised apart.
    ids: list[int] = []
    digits: list[int] = []
    edges = [0, *(edge for bound in bounds for edge in bound), len(text)]
    for number, (start, end) in enumerate(pairwise(edges)):
        part = tokenizer(text[start:end], add_special_tokens=False)["input_ids"] if end > start else []
        ids += part
        digits += [number % 2] * len(part)
    return ids, digits


def _mask(offsets: Sequence[Bounds], bounds: list[Bounds]) -> list[int] | None:
    """One digit a token; None where a token spans a bound."""
    starts = [start for start, _ in bounds]
    mask = []
    before = 0
    for first, last in offsets:
        # A byte-level tokenizer may trim white space off its offsets, and leave nothing of a token that is all white.
        begin = first if first < last else before
        turn = bisect_right(starts, begin) - 1
        inside = turn >= 0 and begin < bounds[turn][1]
        if (inside and last > bounds[turn][1]) or (turn + 1 < len(starts) and last > starts[turn + 1]):
            return None
        mask.append(int(inside))
        before = last
    return mask
