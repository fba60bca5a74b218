"""Words of texts and of trajectories as 64-bit numbers: equal on every machine, without a copy of the text."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

Numbers = np.ndarray[Any, np.dtype[Any]]

# Whatever stands between words, where a text is not plain ASCII.
_BETWEEN = r"[^\p{L}\p{M}\p{N}_]+"

# ASCII in lower case; 0 for what is no part of a word. Bytes from 128 on are parts of letters by then.
_LETTERS = bytes(
    byte if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_" else 0 for byte in bytes(range(256)).lower()
)

# What a load of eight bytes holds of a word that has so many left.
_FIRST = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)

# Bytes from which on a word (a blob in base64, mostly) is hashed by itself: eight at a time would be a long loop.
_LONG = 128


class Words(NamedTuple):
    """Words of documents: document i has hashes[bounds[i]:bounds[i + 1]] (uint64), in their order."""

    hashes: Numbers
    bounds: Numbers


def mixed(numbers: Numbers) -> Numbers:
    """Each 64-bit number spread over all bits, one to one: the finaliser of SplitMix64 (Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def text_words(texts: pa.Array | pa.ChunkedArray) -> Words:
    """The words of each text (a string column; null has none).

    Words are letters, marks, numbers and underscores in lower case; numbers and ids are words too.
    """
    data, bounds = _buffer(texts)
    if len(data) and int(data.max()) >= 128:
        # Only these need to know what a letter is in Unicode.
        normal = pl.Series(pl.from_arrow(texts)).str.to_lowercase().str.replace_all(_BETWEEN, " ")
        data, bounds = _buffer(normal.to_arrow())
    letters = np.zeros(len(data) + 8, np.uint8)
    letters[: len(data)] = np.frombuffer(data.tobytes().translate(_LETTERS), np.uint8)
    inside = np.zeros(len(data) + 2, np.bool_)
    np.not_equal(letters[: len(data)], 0, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    # A text that ends in a word, before one that begins with one: two words.
    touching = bounds[1:-1][np.diff(bounds[:-1]) > 0]
    touching = touching[inside[touching] & inside[touching + 1]]
    starts = np.sort(np.concatenate([edges[::2], touching]), kind="stable")
    ends = np.sort(np.concatenate([edges[1::2], touching]), kind="stable")
    return Words(_hashed(letters, starts, ends - starts), np.searchsorted(starts, bounds))


def episode_words(steps: pa.Array | pa.ChunkedArray) -> Words:
    """The words of each trajectory (a column of `schema.STEP` lists): all that was said and done.

    Of each step reasoning, content, then name and arguments of its calls. System messages stay out: every episode
    of an agent shares them, and they would make all of its episodes alike.
    """
    lists = _combined(steps)
    flat = lists.flatten()
    calls = flat.field("tool_calls")
    called = calls.flatten()
    step_bounds, call_bounds = bounds_of(lists), bounds_of(calls)
    own = np.arange(len(flat))
    caller = np.repeat(own, np.diff(call_bounds))
    call = np.arange(len(called))
    # Each step is two pieces of text, and each of its calls two more after them.
    columns = [
        (flat.field("reasoning"), own, 2 * (own + call_bounds[:-1])),
        (flat.field("content"), own, 2 * (own + call_bounds[:-1]) + 1),
        (called.field("name"), caller, 2 * (caller + call) + 2),
        (called.field("arguments"), caller, 2 * (caller + call) + 3),
    ]
    system = flat.field("role").to_numpy(zero_copy_only=False) == "system"
    sizes = np.zeros(2 * (len(flat) + len(called)), np.int64)
    parts: list[tuple[Numbers, Numbers, Numbers]] = []
    for texts, step, piece in columns:
        words, bounds = text_words(texts)
        counts = np.diff(bounds)
        heard = ~system[step]
        sizes[piece] = np.where(heard, counts, 0)
        parts.append((words[np.repeat(heard, counts)], sizes[piece], piece))
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    hashes = np.empty(ends[-1], np.uint64)
    for words, counts, piece in parts:
        hashes[spread(ends[piece], counts)] = words
    return Words(hashes, ends[2 * (step_bounds + call_bounds[step_bounds])])


def bounds_of(lists: pa.Array) -> Numbers:
    """Where each list begins among the flattened values, and where the last one ends."""
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def spread(starts: Numbers, counts: Numbers) -> Numbers:
    """The numbers starts[i], starts[i] + 1, ... (so many as counts[i]) of every i, in order."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())


def _hashed(letters: Numbers, starts: Numbers, sizes: Numbers) -> Numbers:
    """A number for each word; `letters` has eight bytes to spare at its end."""
    eights = np.ndarray((len(letters) - 7,), "<u8", letters.data, strides=(1,))
    hashes = mixed(sizes.astype(np.uint64) ^ (eights[starts] & _FIRST[np.minimum(sizes, 8)]))
    more = np.flatnonzero(sizes > 8)
    done = 8
    while len(more):
        left = sizes[more] - done
        value = eights[starts[more] + done] & _FIRST[np.minimum(left, 8)]
        hashes[more] = mixed((hashes[more] ^ value) + np.uint64(0x9E3779B97F4A7C15))
        done += 8
        more = more[left > 8]
        if done >= _LONG:
            for word in more:
                rest = letters[starts[word] : starts[word] + sizes[word]]
                hashes[word] = int.from_bytes(hashlib.blake2b(rest.tobytes(), digest_size=8).digest(), "little")
            break
    return hashes


def _buffer(texts: pa.Array | pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """The bytes of a string column, one text after the other, and where each begins."""
    array = _combined(texts).cast(pa.large_string())
    if array.null_count:
        array = array.fill_null("")
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
