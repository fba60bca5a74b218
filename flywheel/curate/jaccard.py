"""Jaccard similarity of pairs of texts, exactly: of many pairs at once, and most of those that miss it told cheaply."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flywheel.curate.words import Numbers, spread

# Distinct runs of words held at once, less 128 for each text: 256 MiB, and at most as much for counts by class.
MOST_RUNS = 1 << 25

# Classes of runs for the first, cheap comparison.
_CLASSES = 512

# Pairs compared at once: their numbers share a word with runs of 56 bits.
_PAIRS = 256

# The runs of rows at some places: hashes and bounds, as `minhash.runs` gives them.
Fetch = Callable[[Numbers], tuple[Numbers, Numbers]]


class Texts:
    """The runs of rows, fetched when they are asked for and held as long as there is room."""

    def __init__(self, n_runs: Numbers, fetch: Fetch) -> None:
        self._sizes = n_runs.astype(np.int64)
        self._fetch = fetch
        self._slot = np.full(len(n_runs), -1)
        self._clear(0)

    def alike(self, one: Numbers, other: Numbers, threshold: float) -> tuple[Numbers, Numbers]:
        """Which pairs of rows reach the threshold (their places, ascending), and how similar each of those is.

        All of them have runs. A row that is in many pairs is fetched once, as far as there is room.
        """
        less, more = np.sort([self._sizes[one], self._sizes[other]], axis=0)
        likely = np.flatnonzero(less / more >= threshold)
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
        for start in range(0, len(missing), 4 * _PAIRS):
            some = bounds[start : start + 4 * _PAIRS + 1]
            classes = (runs[some[0] : some[-1]] % np.uint64(_CLASSES)).view(np.int64)
            classes += np.repeat(np.arange(len(some) - 1) * _CLASSES, np.diff(some))
            counts = np.bincount(classes, minlength=(len(some) - 1) * _CLASSES)
            self._counts[self._rows + start :][: len(some) - 1] = counts.reshape(-1, _CLASSES)
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
