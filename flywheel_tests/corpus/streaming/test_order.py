"""One order for a seed and an epoch, whoever reads which part of it; packs lose and cut nothing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.corpus.streaming.order import Order
from flywheel.corpus.streaming.packing import Packs, packed
from flywheel.schema import FlywheelError


def test_an_order_is_the_same_on_every_machine_and_for_ever():
    # Saved states of streams lean on it: these numbers must never change.
    assert Order(10, 0, 0, block=2, window=2).between(0, 10).tolist() == [1, 6, 0, 7, 4, 5, 3, 2, 8, 9]
    assert Order(10, 0, 1, block=2, window=2).between(0, 10).tolist() == [7, 8, 9, 6, 2, 3, 4, 5, 0, 1]
    assert Order(10, 1, 0, block=2, window=2).between(0, 10).tolist() == [1, 5, 0, 4, 8, 2, 3, 9, 7, 6]


def test_without_a_seed_samples_stay_as_they_are():
    assert Order(1000, None, block=7, window=3).between(0, 1000).tolist() == list(range(1000))


def test_neighbours_are_read_together_and_mixed():
    window = Order(100_000, 3).in_window(5)
    runs = np.split(np.sort(window), np.flatnonzero(np.diff(np.sort(window)) != 1) + 1)
    assert [len(run) % 256 for run in runs if run[-1] != 99_999] == [0] * sum(run[-1] != 99_999 for run in runs)
    assert (np.diff(window) == 1).sum() < 20


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(0, 300),
    block=st.integers(1, 20),
    window=st.integers(1, 5),
    seed=st.none() | st.integers(0, 5),
    epoch=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 320), max_size=6),
)
def test_stretches_of_an_order_make_the_whole_once(count, block, window, seed, epoch, cuts):
    order = Order(count, seed, epoch, block=block, window=window)
    edges = [0, *sorted(cuts), 320]
    parts = [order.between(a, b) for a, b in pairwise(edges)]
    whole = np.concatenate(parts)
    assert sorted(whole) == list(range(count))
    assert whole.tolist() == Order(count, seed, epoch, block=block, window=window).between(0, count).tolist()


def test_packs_take_the_longest_first_into_the_fullest_that_has_room():
    assert packed(np.array([5, 3, 9, 2, 4, 1]), 10) == [[2, 5], [0, 4], [1, 3]]
    assert packed(np.array([5, 5, 5, 5]), 10) == [[0, 1], [2, 3]]
    assert packed(np.array([], np.int64), 10) == []
    with pytest.raises(FlywheelError, match="a sequence of 11 tokens does not fit into a pack of 10"):
        packed(np.array([3, 11]), 10)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), max_size=120),
    block=st.integers(1, 20),
    window=st.integers(1, 5),
    step=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_packs_hold_each_sequence_once_and_whole(lengths, block, window, step, seed):
    sizes = np.array(lengths, np.int64)

    def made():
        return Packs(Order(len(sizes), seed, block=block, window=window), sizes, 32)

    count = made().count
    whole = made().between(0, count)
    assert sorted(int(i) for pack in whole for i in pack) == list(range(len(sizes)))
    assert all(sizes[pack].sum() <= 32 for pack in whole)
    # From any place on, they are the same; and what comes before it is not needed.
    late = made()
    for start in range(0, count + step, step):
        assert [p.tolist() for p in late.between(start, start + step)] == [
            p.tolist() for p in whole[start : start + step]
        ]
    assert [p.tolist() for p in made().between(count // 2, count)] == [p.tolist() for p in whole[count // 2 :]]
