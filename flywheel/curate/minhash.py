"""MinHash signatures: texts that share most runs of words share a bucket, and nearly all others do not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from flywheel.curate.spec import NearDuplicates
from flywheel.curate.words import Numbers, Words, mixed, spread

# Runs are sorted together with the place of their document in eight bits above them.
_DOCUMENTS = 256
_PLACE = np.uint64(56)

# Words of documents worked on at once: what fits a processor's cache.
_WORDS = 1 << 17

# How often the runs are thrown into the bins before what is still empty is filled bin by bin.
_THROWS = 6

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def runs(words: Words, shingle: int) -> tuple[Numbers, Numbers]:
    """The distinct runs of so many words of each document, as numbers below 2^56, ascending.

    A document of fewer words is one run, and one without words has none. Gives `hashes` (uint64) and `bounds`:
    document i has hashes[bounds[i]:bounds[i + 1]].
    """
    parts = list(_parts(words, shingle))
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(bounds) for _, bounds in parts)])
    return np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in parts)]), np.cumsum(counts)


def fingerprints(words: Words, near: NearDuplicates) -> pa.Table:
    """`buckets` (list<int64>, one a band; none where there are no words) and `n_runs` of each document."""
    bands, rows = near.signature
    buckets: list[Numbers] = [np.zeros((0, bands), np.int64)]
    counts: list[Numbers] = [np.zeros(0, np.int64)]
    for hashes, bounds in _parts(words, near.shingle):
        sizes = np.diff(bounds)
        some = sizes > 0
        signed = _sketches(hashes, sizes[some], bands * rows, near.seed).reshape(-1, bands, rows)
        # Another factor for each place: equal rows of two bands are no common bucket.
        factors = _constants(near.seed, 2, bands * rows).reshape(bands, rows) | np.uint64(1)
        buckets.append(mixed((signed * factors).sum(axis=2, dtype=np.uint64)).view(np.int64))
        counts.append(sizes)
    n_runs = np.concatenate(counts)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.where(n_runs > 0, bands, 0))])
    lists = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(np.concatenate(buckets).reshape(-1)))
    return pa.table({"buckets": lists, "n_runs": pa.array(n_runs, pa.int32())})


def _parts(words: Words, shingle: int) -> Iterator[tuple[Numbers, Numbers]]:
    """The runs of a few documents at a time."""
    start, documents = 0, len(words.bounds) - 1
    while start < documents:
        fits = int(np.searchsorted(words.bounds, words.bounds[start] + _WORDS, side="right")) - 1
        end = min(max(fits, start + 1), start + _DOCUMENTS, documents)
        bounds = words.bounds[start : end + 1]
        yield _runs(words.hashes[bounds[0] : bounds[-1]], np.diff(bounds), shingle)
        start = end


def _runs(words: Numbers, counts: Numbers, shingle: int) -> tuple[Numbers, Numbers]:
    # A short text is filled up with empty words to be one run.
    filled = np.where(counts > 0, np.maximum(counts, shingle), 0)
    starts = np.cumsum(filled) - filled
    if len(words) < filled.sum():
        long = np.zeros(filled.sum(), np.uint64)
        long[spread(starts, counts)] = words
        words = long
    size = max(len(words) - shingle + 1, 0)
    rolled = np.zeros(size, np.uint64)
    for place, factor in enumerate(_constants(0, 0, shingle) | np.uint64(1)):
        rolled += words[place : place + size] * factor
    sizes = np.maximum(filled - shingle + 1, 0)
    document = np.repeat(np.arange(len(counts), dtype=np.uint64), sizes)
    keys = (mixed(rolled[spread(starts, sizes)]) >> (np.uint64(64) - _PLACE)) | (document << _PLACE)
    keys.sort()
    fresh = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=fresh[1:])
    keys = keys[fresh]
    bounds = np.searchsorted(keys, np.arange(len(counts), dtype=np.uint64) << _PLACE)
    return keys & np.uint64((1 << 56) - 1), np.append(bounds, len(keys))


def _sketches(hashes: Numbers, sizes: Numbers, bins: int, seed: int) -> Numbers:
    """A signature of so many places (uint64, documents x bins) of each set; equal in a place with chance Jaccard.

    Each run is thrown into one bin, and the least number in a bin stands; so a text is read once and not once for
    every place. Bins that stayed empty are filled from the next throw, and after the last one from all runs.
    Dahlgaard, Knudsen and Thorup 2017, "Fast similarity sketching", with fewer random throws.
    """
    sketch = np.full(len(sizes) * bins, np.iinfo(np.uint64).max, np.uint64)
    starts = np.cumsum(sizes) - sizes
    seeds = _constants(seed, 1, _THROWS + bins)
    where = np.arange(len(sizes))
    for throw in range(_THROWS):
        runs = hashes if len(where) == len(sizes) else hashes[spread(starts[where], sizes[where])]
        thrown = mixed(runs ^ seeds[throw])
        places = ((thrown >> np.uint64(32)) * np.uint64(bins)) >> np.uint64(32)
        places = places.view(np.int64) + np.repeat(where * bins, sizes[where])
        # What an earlier throw left is less than all of this one.
        values = (thrown & np.uint64(0xFFFFFFFF)) | np.uint64(throw << 32)
        np.minimum.at(sketch, places, values)
        empty = (sketch.reshape(-1, bins)[where] >> np.uint64(32) > throw).any(axis=1)
        where = where[empty]
        if not len(where):
            return sketch
    rest = np.flatnonzero(sketch == np.iinfo(np.uint64).max)
    document, place = rest // bins, rest % bins
    for some in np.array_split(np.arange(len(rest)), max(1, int(sizes[document].sum()) // (8 * _WORDS))):
        counts = sizes[document[some]]
        values = mixed(hashes[spread(starts[document[some]], counts)] ^ np.repeat(seeds[_THROWS + place[some]], counts))
        if len(some):
            sketch[rest[some]] = np.minimum.reduceat(values, np.cumsum(counts) - counts) | np.uint64(1 << 63)
    return sketch


def _constants(seed: int, stream: int, count: int) -> Numbers:
    """Random 64-bit numbers, the same in every release of every library: SplitMix64."""
    first = mixed(np.array([(seed * _GOLDEN + stream * 0xD1B54A32D192ED03) & _MASK], np.uint64))
    return mixed(first + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
