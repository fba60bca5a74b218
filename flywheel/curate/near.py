"""Near duplicates: rows that share buckets are compared exactly, each with the better ones that are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flywheel.curate.words import Numbers, mixed, spread

# Distinct runs of words held at once, less 128 for each text: 256 MiB, and at most as much for counts by class.
MOST_RUNS = 1 << 25

# Classes of runs for the first, cheap comparison.
_CLASSES = 512

# Pairs compared at once: their numbers share a word with runs of 56 bits.
_PAIRS = 256

Fetch = Callable[[Numbers], tuple[Numbers, Numbers]]


class Near(NamedTuple):
    """What is dropped: places in the order of ranks, of each the best kept row that it is near to, and how near."""

    places: Numbers
    originals: Numbers
    similarity: Numbers


def near(buckets: Numbers, scopes: Numbers, n_runs: Numbers, threshold: float, fetch: Fetch) -> Near:
    """The near duplicates among rows in the order of their ranks, the best first.

    A row is kept unless its runs are near (Jaccard similarity of at least `threshold`) to those of a row that is kept
    already and shares a bucket and the scope with it: the greedy choice row after row. It is made in rounds, each over
    all rows at once. A row that is the first in all of its buckets is kept; what shares a bucket with it is compared
    with it alone, and dropped where it is near. So thousands of rows that repeat one cost a comparison each. Only rows
    that share a bucket and are all kept (alike, and just not enough) are each compared with each.

    `buckets` is rows x bands (int64), `scopes` a number a row, `n_runs` how many distinct runs a row has (0: it is like
    nothing). `fetch` gives the runs of places as `minhash.runs` does; at most `MOST_RUNS` of them are held, or those
    of one pair, and it is asked only for rows that share a bucket with one of a similar size.
    """
    rows, bucket = _shared(buckets, scopes, n_runs)
    bucket = _renumbered(bucket)
    texts = _Texts(n_runs, fetch)
    undecided = np.ones(len(n_runs), np.bool_)
    kept = np.zeros(len(n_runs), np.bool_)
    nobody = len(n_runs)
    original = np.full(nobody, nobody)
    similarity = np.zeros(nobody)
    waits = np.zeros(nobody, np.bool_)
    while len(rows):
        # A dropped row goes on looking for a better original than the one it has.
        head = _heads(rows, bucket, undecided)
        stays = undecided[rows] | ((head < original[rows]) & ~kept[rows])
        rows, bucket, head = rows[stays], bucket[stays], head[stays]
        stays = (np.bincount(bucket) > 1)[bucket]
        rows, head, bucket = rows[stays], head[stays], _renumbered(bucket[stays])
        waits[rows[head != rows]] = True
        new = rows[undecided[rows] & ~waits[rows]]
        waits[rows] = False
        kept[new], undecided[new] = True, False
        met = np.flatnonzero((head != rows) & kept[head])
        pairs = np.unique(head[met] * nobody + rows[met])
        better, worse = pairs // nobody, pairs % nobody
        near_by, alike = texts.alike(better, worse, threshold)
        better, worse = better[near_by], worse[near_by]
        closer = better < original[worse]
        better, worse, alike = better[closer], worse[closer], alike[closer]
        # The pairs are in the order of the better rows: of each worse one the first counts, so it is written last.
        original[worse[::-1]] = better[::-1]
        similarity[worse[::-1]] = alike[::-1]
        undecided[worse] = False
    places = np.flatnonzero(original < nobody)
    return Near(places, original[places], similarity[places])


def _heads(rows: Numbers, bucket: Numbers, undecided: Numbers) -> Numbers:
    """For each row and bucket the best undecided row of the bucket; beyond all rows where there is none."""
    head = np.full(bucket[-1] + 1, len(undecided))
    some = undecided[rows]
    # Rows of a bucket stand in their order: the first is written last.
    head[bucket[some][::-1]] = rows[some][::-1]
    return head[bucket]


def _renumbered(numbers: Numbers) -> Numbers:
    """Ascending numbers without gaps: 0, 1, 2, ..."""
    return np.cumsum(np.diff(numbers, prepend=numbers[:1]) > 0)


def _shared(buckets: Numbers, scopes: Numbers, n_runs: Numbers) -> tuple[Numbers, Numbers]:
    """Each row with each bucket that it shares, as two columns ordered by bucket and row."""
    some = np.flatnonzero(n_runs)
    scope = mixed(scopes[some].astype(np.uint64) + np.uint64(1))
    rows: list[Numbers] = [np.zeros(0, np.int64)]
    numbers: list[Numbers] = [np.zeros(0, np.int64)]
    count = 0
    for band in range(buckets.shape[1]):
        keys = mixed(buckets[some, band].view(np.uint64) ^ scope)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        new = np.ones(len(keys), np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        number = np.cumsum(new) - 1
        often = (np.bincount(number) > 1)[number]
        rows.append(some[order[often]])
        numbers.append(count + number[often])
        count += len(keys)
    return np.concatenate(rows), np.concatenate(numbers)


class _Texts:
    """The runs of rows, fetched when they are asked for and held as long as there is room."""

    def __init__(self, n_runs: Numbers, fetch: Fetch) -> None:
        self._sizes = n_runs.astype(np.int64)
        self._fetch = fetch
        self._slot = np.full(len(n_runs), -1)
        self._clear(0)

    def alike(self, one: Numbers, other: Numbers, threshold: float) -> tuple[Numbers, Numbers]:
        """Which of the pairs reach the threshold (their places), and the similarity of each of those."""
        less, more = np.sort([self._sizes[one], self._sizes[other]], axis=0)
        likely = np.flatnonzero(less >= threshold * more)
        found: list[tuple[Numbers, Numbers]] = [(np.zeros(0, np.int64), np.zeros(0))]
        for part in self._parts(one[likely], other[likely]):
            pairs = likely[part]
            self._hold(np.unique(np.concatenate([one[pairs], other[pairs]])))
            pairs = pairs[self._bound(one[pairs], other[pairs]) >= threshold]
            similarity = self._similarity(one[pairs], other[pairs])
            near_by = similarity >= threshold
            found.append((pairs[near_by], similarity[near_by]))
        return np.concatenate([pairs for pairs, _ in found]), np.concatenate([alike for _, alike in found])

    def _parts(self, one: Numbers, other: Numbers) -> list[slice]:
        """Pairs in their order, as many at a time as there is room for the rows of, at least one."""
        again = np.zeros(len(one), np.bool_)
        again[1:] = one[1:] == one[:-1]
        ends = np.cumsum(self._room(other) + np.where(again, 0, self._room(one)))
        parts, start = [], 0
        while start < len(one):
            # The first pair of a part also needs room for its better row.
            before = ends[start - 1] - self._room(one[start : start + 1])[0] if start else 0
            end = max(int(np.searchsorted(ends, before + MOST_RUNS, side="right")), start + 1)
            parts.append(slice(start, end))
            start = end
        return parts

    def _room(self, rows: Numbers) -> Numbers:
        """What rows take: a place a run, and the same bytes for their counts by class."""
        return self._sizes[rows] + _CLASSES // 4

    def _clear(self, least: int) -> None:
        self._slot[:] = -1
        self._rows = self._filled = self._taken = 0
        # Memory that is never written to is never taken.
        self._runs = np.empty(max(MOST_RUNS, least), np.uint64)
        self._starts = np.empty(4 * len(self._runs) // _CLASSES, np.int64)
        self._counts = np.empty((len(self._starts), _CLASSES), np.uint16)

    def _hold(self, rows: Numbers) -> None:
        """Have the runs of rows at hand, whatever others must go for it."""
        missing = rows[self._slot[rows] < 0]
        if self._taken + self._room(missing).sum() > len(self._runs):
            self._clear(int(self._room(rows).sum()))
            missing = rows
        if not len(missing):
            return
        self._taken += int(self._room(missing).sum())
        runs, bounds = self._fetch(missing)
        sizes = np.diff(bounds)
        assert (sizes == self._sizes[missing]).all(), "runs of other texts than were fingerprinted"
        end, rows_end = self._filled + len(runs), self._rows + len(missing)
        self._runs[self._filled : end] = runs
        self._starts[self._rows : rows_end] = self._filled + bounds[:-1]
        classes = np.repeat(np.arange(len(missing)) * _CLASSES, sizes) + (runs % np.uint64(_CLASSES)).view(np.int64)
        counts = np.bincount(classes, minlength=len(missing) * _CLASSES)
        self._counts[self._rows : rows_end] = counts.reshape(-1, _CLASSES)
        self._slot[missing] = np.arange(self._rows, rows_end)
        self._filled, self._rows = end, rows_end

    def _bound(self, one: Numbers, other: Numbers) -> Numbers:
        """At least the similarity of each pair: they share no more runs of a class than either has."""
        most = np.empty(len(one), np.int64)
        for start in range(0, len(one), 4 * _PAIRS):
            some = slice(start, start + 4 * _PAIRS)
            least = np.minimum(self._counts[self._slot[one[some]]], self._counts[self._slot[other[some]]])
            most[some] = least.sum(axis=1, dtype=np.uint32)
        return most / (self._sizes[one] + self._sizes[other] - most)

    def _similarity(self, one: Numbers, other: Numbers) -> Numbers:
        """The Jaccard similarity of each pair. Runs of both are sorted together: a run twice in a pair is shared."""
        shared = np.empty(len(one), np.int64)
        for start in range(0, len(one), _PAIRS):
            pair = np.stack([one[start : start + _PAIRS], other[start : start + _PAIRS]], axis=1)
            sizes = self._sizes[pair]
            runs = self._runs[spread(self._starts[self._slot[pair.reshape(-1)]], sizes.reshape(-1))]
            tags = np.repeat(np.arange(len(pair), dtype=np.uint64), sizes.sum(axis=1))
            keys = np.sort(runs | (tags << np.uint64(56)))
            twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(56)
            shared[start : start + len(pair)] = np.bincount(twice.view(np.int64), minlength=len(pair))
        return shared / (self._sizes[one] + self._sizes[other] - shared)
