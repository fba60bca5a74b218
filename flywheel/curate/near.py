"""Near duplicates: rows that share buckets are compared exactly, each with the better ones that are kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flywheel.curate.jaccard import Fetch, Texts
from flywheel.curate.words import Numbers, mixed


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
    nothing). `fetch` gives the runs of places as `minhash.runs` does, for rows that share a bucket with one of a
    similar size; at most `jaccard.MOST_RUNS` are held, or those of one pair.
    """
    rows, bucket = _shared(buckets, scopes, n_runs)
    bucket = _renumbered(bucket)
    texts = Texts(n_runs, fetch)
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
        likely = np.flatnonzero(_repeated(keys))
        order = likely[np.argsort(keys[likely], kind="stable")]
        keys = keys[order]
        new = np.ones(len(keys), np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        number = np.cumsum(new) - 1
        often = (np.bincount(number) > 1)[number]
        rows.append(some[order[often]])
        numbers.append(count + number[often])
        count += len(keys)
    return np.concatenate(rows), np.concatenate(numbers)


def _repeated(keys: Numbers) -> Numbers:
    """Which keys may stand there twice: all that do, and about one in sixteen of the others. Most need no sorting."""
    mask = np.uint64((1 << (16 * len(keys)).bit_length()) - 1)
    slots = (keys & mask).view(np.int64)
    last = np.empty(int(mask) + 1, np.int32)
    last[slots] = np.arange(len(keys), dtype=np.int32)
    shared = np.zeros(len(last), np.bool_)
    shared[slots[last[slots] != np.arange(len(keys))]] = True
    return shared[slots]
