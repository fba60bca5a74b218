"""Terms: how often each word stands in an episode, as numbers, for full-text search without an index to keep."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from flywheel.curate.derivation import Derivation
from flywheel.curate.words import Numbers, Words, episode_words, text_words

TERMS = pa.schema(
    [
        ("terms", pa.list_(pa.uint32())),  # ascending
        ("counts", pa.list_(pa.uint8())),  # of each term; 255 stands for more, too
        ("n_words", pa.int32()),
    ]
)

# Documents whose words are sorted at once: what fits a processor's cache.
_DOCUMENTS = 128


def query_terms(text: str) -> Numbers:
    """The distinct terms of a text (uint32), ascending."""
    return np.unique(_numbers(text_words(pa.array([text], pa.string())).hashes)).astype(np.uint32)


def counted(words: Words) -> pa.Table:
    """The terms of each document, as rows of `TERMS`."""
    terms, counts, sizes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
    for start in range(0, len(words.bounds) - 1, _DOCUMENTS):
        bounds = words.bounds[start : start + _DOCUMENTS + 1]
        document = np.repeat(np.arange(len(bounds) - 1, dtype=np.uint64), np.diff(bounds))
        keys = _numbers(words.hashes[bounds[0] : bounds[-1]]) | (document << np.uint64(32))
        found, often = np.unique(keys, return_counts=True)
        terms.append(found & np.uint64(0xFFFFFFFF))
        counts.append(often)
        sizes.append(np.bincount((found >> np.uint64(32)).astype(np.int64), minlength=len(bounds) - 1))
    offsets = pa.array(np.cumsum(np.concatenate(sizes)), pa.int32())
    often = np.minimum(np.concatenate(counts), 255).astype(np.uint8)
    lists = [np.concatenate(terms).astype(np.uint32), often]
    columns = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in lists]
    return pa.table([*columns, pa.array(np.diff(words.bounds), pa.int32())], schema=TERMS)


def _numbers(hashes: Numbers) -> Numbers:
    """Half of each hash: of a million words, about a hundred share a number with another."""
    return hashes >> np.uint64(32)


def _terms(captured: pa.Table) -> pa.Table:
    return counted(episode_words(captured["steps"]))


ROWS = Derivation(
    name="terms",
    recipe="terms 1: the words of the episode, 32 bits of each, and how often, up to 255",
    columns=("steps",),
    schema=TERMS,
    compute=_terms,
)
