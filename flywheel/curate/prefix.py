"""Prefix duplicates: of overlapping records of one session, the one that ranks best is kept."""

from __future__ import annotations

import numpy as np

from flywheel.curate.words import Numbers, spread


def prefixes(chains: Numbers, starts: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """The prefix duplicates among rows in the order of their ranks: their places, and of each its original's place.

    Row i has sizes[i] numbers from chains[starts[i]] on, one for the conversation after each of its steps (see
    `digests`): it is the beginning of another when its last number stands in the other's chain. In the order of ranks
    a row is kept unless it is a beginning, or a continuation, of one that is kept already; its original is the best
    of these. Two continuations of one beginning are no duplicates of each other. A row without steps is nothing's
    beginning.
    """
    some = np.flatnonzero(sizes)
    # Rows that say the same are one node, known by its best row.
    values, nodes = np.unique(chains[(starts + sizes - 1)[some]], return_inverse=True)
    best = np.full(len(values), len(sizes))
    best[nodes[::-1]] = some[::-1]
    # Each node's own chain, looked up among the ends of all.
    before = sizes[best] - 1
    steps = chains[spread(starts[best], before)]
    longer = np.repeat(best, before)
    likely = np.flatnonzero(_among(values, steps))
    steps, longer = steps[likely], longer[likely]
    place = np.minimum(np.searchsorted(values, steps), len(values) - 1)
    met = values[place] == steps
    shorter, longer = best[place[met]], longer[met]
    original = _chosen(np.minimum(shorter, longer), np.maximum(shorter, longer), len(sizes))
    # The others of a node go with its best row.
    head = np.arange(len(sizes))
    head[some] = best[nodes]
    original = np.where(original[head] < len(sizes), original[head], head)
    places = np.flatnonzero(original != np.arange(len(sizes)))
    return places, original[places]


def _among(values: Numbers, numbers: Numbers) -> Numbers:
    """Which numbers may be among some values: all that are, and one in sixteen of the others.

    A look into a table, where to search for each would cost ten times as much.
    """
    mask = (1 << (16 * len(values)).bit_length()) - 1
    seen = np.zeros(mask + 1, np.bool_)
    seen[values & mask] = True
    return seen[numbers & mask]


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
