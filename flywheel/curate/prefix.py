"""Prefix duplicates: of overlapping records of one session, the one that ranks best is kept."""

from __future__ import annotations

import numpy as np

from flywheel.curate.words import Numbers, spread


def prefixes(chains: Numbers, bounds: Numbers) -> tuple[Numbers, Numbers]:
    """The prefix duplicates among rows in the order of their ranks: their places, and of each its original's place.

    Row i has the chain chains[bounds[i]:bounds[i + 1]]: a number for the conversation after each of its steps (see
    `digests`), so one is the beginning of another when its last number stands in the other's chain. In the order of
    ranks a row is kept unless it is a beginning, or a continuation, of one that is kept already; its original is the
    best of these. Two continuations of one beginning are no duplicates of each other. A row without steps is
    nothing's beginning.
    """
    sizes = np.diff(bounds)
    some = np.flatnonzero(sizes)
    # Rows that say the same are one node, known by its best row.
    values, nodes = np.unique(chains[bounds[some + 1] - 1], return_inverse=True)
    best = np.full(len(values), len(sizes))
    best[nodes[::-1]] = some[::-1]
    # Each node's own chain, looked up among the ends of all.
    before = sizes[best] - 1
    steps = chains[spread(bounds[best], before)]
    place = np.minimum(np.searchsorted(values, steps), len(values) - 1)
    met = values[place] == steps
    shorter, longer = best[place[met]], np.repeat(best, before)[met]
    original = _chosen(np.minimum(shorter, longer), np.maximum(shorter, longer), len(sizes))
    # The others of a node go with its best row.
    head = np.arange(len(sizes))
    head[some] = best[nodes]
    original = np.where(original[head] < len(sizes), original[head], head)
    places = np.flatnonzero(original != np.arange(len(sizes)))
    return places, original[places]


def _chosen(better: Numbers, worse: Numbers, count: int) -> Numbers:
    """The original of each row, `count` where it is kept: row after row, the best kept one it is joined with.

    In rounds over all pairs at once: what waits for no better row is kept, and what is joined with it is dropped.
    """
    original = np.full(count, count)
    waits = np.zeros(count, np.bool_)
    while len(better):
        waits[worse] = True
        kept = ~waits[better]
        waits[worse] = False
        np.minimum.at(original, worse[kept], better[kept])
        # A dropped row drops nothing; it may yet find a better original than the one it has.
        stays = ~kept & (original[better] == count) & (better < original[worse])
        better, worse = better[stays], worse[stays]
    return original
