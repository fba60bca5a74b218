"""Runs of words as numbers: the texts of many trajectories in flat arrays, for set comparisons without a loop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate.fingerprint import EPISODE, PROMPT

WORD = r"[\p{L}\p{M}\p{N}_]+"

# A polynomial over word hashes, modulo 2^64; the salt keeps runs of different lengths apart.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SALT = 0xD1B54A32D192ED03

_SYSTEM = """
array_to_string(list_transform(list_filter(steps, lambda s: s.role = 'system'), lambda s: coalesce(s.content, '')), ' ')
"""


class Words(NamedTuple):
    """The words of documents: document i has the hashes from offsets[i] to offsets[i + 1]."""

    offsets: np.ndarray
    hashes: np.ndarray

    @property
    def documents(self) -> np.ndarray:
        """The document of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def said(trajectories: pa.Table) -> pl.DataFrame:
    """The `prompt`, the `text` of the episode and the `system` text of each row (`id` and `steps`), in order."""
    with warehouse.connect() as connection:
        connection.register("given", trajectories.select(["id", "steps"]))
        connection.sql("SET preserve_insertion_order = true")
        found = connection.sql(f"SELECT id, {PROMPT} AS prompt, {EPISODE} AS text, {_SYSTEM} AS system FROM given")
        return _frame(found.to_arrow_table())


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def split(texts: pl.Series, *, masked: bool = False) -> pl.Series:
    """The words of each text: lower case, without punctuation. `masked` writes # for each run of digits.

    A date, a price or an order's number is another word on every day; masked, it is the same one.
    """
    lower = texts.fill_null("").str.to_lowercase()
    words = lower.str.extract_all(WORD)
    if not masked:
        return words
    return words.list.eval(pl.element().str.replace_all(r"\p{N}+", "#"))


def hashed(words: pl.Series) -> Words:
    """The words of `split` as numbers."""
    lengths = words.list.len().to_numpy().astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = words.explode(empty_as_null=False).drop_nulls()
    return Words(offsets, flat.hash(seed=1).to_numpy())


def runs(words: Words, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every run of so many words as (document, hash, place of its first word), in order, repeats included."""
    documents = words.documents
    count = max(0, len(words.hashes) - size + 1)
    whole = documents[:count] == documents[size - 1 : size - 1 + count]
    place = np.flatnonzero(whole)
    return documents[place], _rolled(words.hashes, place, size), place


def _rolled(hashes: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    value = np.full(len(starts), _SALT * size % 2**64, dtype=np.uint64)
    for step in range(size):
        value = value * _FACTOR + hashes[starts + step]
    return value ^ (value >> np.uint64(31))


def shingles(words: Words, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs as (document, hash), where a document shorter than a run is one run."""
    documents, values, _ = runs(words, size)
    lengths = np.diff(words.offsets)
    parts = [(documents, values)]
    for shorter in range(1, size):
        own = np.flatnonzero(lengths == shorter)
        if len(own):
            parts.append((own, _rolled(words.hashes, words.offsets[own], shorter)))
    return np.concatenate([d for d, _ in parts]), np.concatenate([v for _, v in parts])


def distinct(documents: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of document and value once, ordered by document, then value."""
    frame = pl.DataFrame({"document": documents, "value": values}).unique().sort("document", "value")
    return frame["document"].to_numpy(), frame["value"].to_numpy()


class Vocabulary:
    """A set of hashes that answers quickly which of many are in it: a table of bits first, then a binary search."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.unique(values)
        # Sixteen bits for each value and more: of strangers, one in sixteen passes on to the search.
        self._shift = np.uint64(64 - max(10, (16 * len(self.values)).bit_length()))
        self._bits = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._bits[self._bucket(self.values)] = True

    def _bucket(self, values: np.ndarray) -> np.ndarray:
        return ((values * _FACTOR) >> self._shift).astype(np.int64)

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the values that are in the set: their positions, and where each stands in `self.values`."""
        if not len(self.values):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        maybe = np.flatnonzero(self._bits[self._bucket(values)])
        place = np.searchsorted(self.values, values[maybe]).clip(max=len(self.values) - 1)
        true = self.values[place] == values[maybe]
        return maybe[true], place[true]
