"""Near duplicates in rounds, against the choice made row after row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate import jaccard
from flywheel.curate.near import near


def fetcher(sets):
    def fetch(places):
        runs = [np.sort(np.array(list(sets[place]), np.uint64)) for place in places]
        return np.concatenate([np.zeros(0, np.uint64), *runs]), np.cumsum([0, *map(len, runs)])

    return fetch


def one_by_one(sets, buckets, scopes, threshold):
    """The definition: in order, each row against the kept ones before it."""
    kept, dropped = [], {}
    for row, own in enumerate(sets):
        for other in kept:
            shares = scopes[row] == scopes[other] and any(buckets[row] == buckets[other])
            if own and sets[other] and shares:
                similarity = len(own & sets[other]) / len(own | sets[other])
                if similarity >= threshold:
                    dropped[row] = (other, similarity)
                    break
        else:
            kept.append(row)
    return dropped


def found(sets, buckets, scopes, threshold):
    sizes = np.array([len(own) for own in sets], np.int32)
    result = near(buckets, np.array(scopes, np.int64), sizes, threshold, fetcher(sets))
    return {int(row): (int(original), alike) for row, original, alike in zip(*result, strict=True)}


@st.composite
def rows(draw):
    count = draw(st.integers(0, 24))
    sets = [set(draw(st.lists(st.integers(0, 11), max_size=8))) for _ in range(count)]
    buckets = np.array([[draw(st.integers(0, 3)) for _ in range(3)] for _ in range(count)], np.int64).reshape(-1, 3)
    return sets, buckets, [draw(st.integers(0, 1)) for _ in range(count)], draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))


@settings(max_examples=400, deadline=None)
@given(rows())
def test_the_rounds_choose_what_one_by_one_would(given):
    assert found(*given) == one_by_one(*given)


@pytest.mark.parametrize("room", [1, 1000, 4000])
def test_little_room_changes_nothing(monkeypatch, room):
    rng = np.random.default_rng(1)
    sets = [set(rng.integers(0, 40, rng.integers(1, 60)).tolist()) for _ in range(120)]
    buckets = rng.integers(0, 12, (120, 4))
    expected = one_by_one(sets, buckets, [0] * 120, 0.5)
    monkeypatch.setattr(jaccard, "MOST_RUNS", room)
    assert found(sets, buckets, [0] * 120, 0.5) == expected
    assert len(expected) > 10


def test_a_template_costs_one_comparison_a_row():
    """Ten thousand rows that differ in a number: each is fetched once, and all but the best are dropped."""
    template = set(range(1000, 1095))
    sets = [template | {i} for i in range(900)] + [template | {2000 + i} for i in range(9_100)]
    asked = []

    def fetch(places):
        asked.extend(places.tolist())
        return fetcher(sets)(places)

    sizes = np.full(len(sets), 96)
    result = near(np.zeros((len(sets), 3), np.int64), np.zeros(len(sets), np.int64), sizes, 0.9, fetch)
    assert result.places.tolist() == list(range(1, 10_000))
    assert set(result.originals.tolist()) == {0}
    assert result.similarity == pytest.approx(95 / 97)
    assert sorted(asked) == list(range(10_000))
