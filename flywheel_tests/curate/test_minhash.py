"""Signatures: whether texts that are alike share a bucket, and others do not."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.minhash import fingerprints, runs
from flywheel.curate.spec import NearDuplicates
from flywheel.curate.words import text_words


def distinct_runs(*texts: str, shingle: int = 3) -> list[set[int]]:
    hashes, bounds = runs(text_words(pa.array(texts, pa.string())), shingle)
    return [set(part.tolist()) for part in np.split(hashes, bounds[1:-1])]


def test_runs_are_sets_of_consecutive_words():
    one, same, other, short, none = distinct_runs("a b c d", "A, b; c! d?", "d c b a", "a b", "...")
    assert one == same and len(one) == len(other) == 2 and not one & other
    assert len(short) == 1 and not short & one
    assert none == set()
    assert [len(found) for found in distinct_runs("a a a a a a", "a b a b a b")] == [1, 2]


def test_what_stands_around_a_document_does_not_matter():
    """Also across the parts that are worked on at once (256 documents)."""
    texts = [f"call {i} of {i % 7} and {i % 3} more" * (i % 5) for i in range(600)]
    together = fingerprints(text_words(pa.array(texts)), NearDuplicates()).to_pylist()
    for i in (0, 1, 255, 256, 257, 511, 599):
        assert fingerprints(text_words(pa.array([texts[i]])), NearDuplicates()).to_pylist() == [together[i]]


def test_buckets_are_the_same_on_every_machine():
    found = fingerprints(text_words(pa.array(["the order was sent twice", ""])), NearDuplicates(bands=2, rows=3))
    assert found.to_pylist() == [
        {"buckets": [640844219415263118, 9020914266317230777], "n_runs": 1},
        {"buckets": [], "n_runs": 0},
    ]


def planted(similarity: float, size: int, pairs: int) -> tuple[list[str], np.ndarray]:
    """Texts, two by two so alike (runs of one word), and the similarity of each two."""
    rng = np.random.default_rng(5)
    shared = round(2 * size * similarity / (1 + similarity))
    texts = []
    for pair in range(pairs):
        common = [f"both{pair}x{i}" for i in range(shared)]
        for side in "ab":
            own = common + [f"{side}{pair}x{i}" for i in range(size - shared)]
            rng.shuffle(own)
            texts.append(" ".join(own))
    return texts, np.full(pairs, shared / (2 * size - shared))


def share(found: pa.Table) -> np.ndarray:
    buckets = np.array(found["buckets"].to_pylist())
    return (buckets[::2] == buckets[1::2]).any(axis=1)


@pytest.mark.parametrize("size", [12, 60, 200, 800])
@pytest.mark.parametrize("threshold", [0.7, 0.9])
def test_pairs_at_the_threshold_share_a_bucket(threshold, size):
    """At .7 and at .9, short texts and long: at least .97 of what is just so alike."""
    texts, similarity = planted(threshold, size, 1500)
    found = share(fingerprints(text_words(pa.array(texts)), near := NearDuplicates(threshold=threshold, shingle=1)))
    bands, rows = near.signature
    expected = 1 - (1 - similarity[0] ** rows) ** bands
    assert found.mean() >= expected - 0.012
    if similarity[0] >= threshold:
        assert found.mean() >= 0.97


@pytest.mark.parametrize("size", [60, 800])
def test_pairs_that_are_less_alike_mostly_do_not(size):
    texts, similarity = planted(0.6, size, 1500)
    near = NearDuplicates(threshold=0.9, shingle=1)
    bands, rows = near.signature
    found = share(fingerprints(text_words(pa.array(texts)), near))
    assert found.mean() == pytest.approx(1 - (1 - similarity[0] ** rows) ** bands, abs=0.015)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=6).map(" ".join), max_size=8))
def test_equal_sets_have_equal_buckets(texts):
    found = fingerprints(text_words(pa.array(texts, pa.string())), NearDuplicates(shingle=2)).to_pylist()
    sets = distinct_runs(*texts, shingle=2) if texts else []
    for i, one in enumerate(sets):
        assert found[i]["n_runs"] == len(one)
        for j, other in enumerate(sets):
            assert (found[i]["buckets"] == found[j]["buckets"]) == (one == other)
