"""Ranking: BM25 as in the book, nearness to the last digit, and ranks that are fused."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.corpus.retrieval import ranking
from flywheel.curate import terms
from flywheel.curate.words import text_words

TEXTS = st.lists(st.text(st.sampled_from("ab "), max_size=12), min_size=1, max_size=12)


def postings(*texts, order=None):
    """The texts as documents, stored in any order."""
    order = list(range(len(texts))) if order is None else order
    rows = terms.counted(text_words(pa.array([texts[place] for place in order], pa.string())))
    lists = [rows[name].combine_chunks() for name in ("terms", "counts")]
    lengths = np.zeros(len(texts), np.int64)
    lengths[order] = rows["n_words"].to_numpy()
    bounds = lists[0].offsets.to_numpy()
    return ranking.Postings(
        len(texts), np.array(order), bounds, *(values.flatten().to_numpy() for values in lists), lengths
    )


def scores(query, *texts, **options):
    return ranking.bm25(postings(*texts, **options), terms.query_terms(query))


def test_bm25_is_that_of_the_book():
    texts = ["refund refund order", "refund", "print a b c d"]
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = (3 + 1 + 5) / 3
    expected = [idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean)) for tf, length in ((2, 3), (1, 1))]
    assert scores("Refund!", *texts).tolist() == pytest.approx([*expected, 0])


def test_words_that_few_have_weigh_more():
    found = scores("order flight", "order a", "order b", "order c", "flight d")
    assert found.argmax() == 3
    assert scores("nothing", "order").tolist() == [0]
    assert scores("order", "", "").tolist() == [0, 0]


@given(TEXTS, st.text(st.sampled_from("ab "), max_size=6), st.randoms())
def test_scores_do_not_know_how_documents_lie(texts, query, random):
    order = random.sample(range(len(texts)), len(texts))
    assert scores(query, *texts, order=order).tolist() == scores(query, *texts).tolist()


def test_the_nearest_allowed_are_found():
    vectors = np.eye(4, dtype=np.float32)
    query = np.array([0.9, 0.3, 0.3, 0.0], np.float32)
    found = ranking.cosine(vectors, query, np.array([False, True, True, True]), 2)
    # Of equal ones the first place comes first, whatever else is asked for.
    assert ranking.best(found, 2).tolist() == [1, 2]
    assert ranking.ranks(found, ranking.best(found, 3)).tolist() == [1, 1, 3]


@given(st.integers(1, 40), st.integers(1, 10), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_nearest_are_those_of_a_plain_search(count, depth, share, seed):
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, (count, 3)).astype(np.float32)
    query, allowed = random.integers(-2, 3, 3).astype(np.float32), random.random(count) < share
    plain = sorted((-float(vectors[place] @ query), place) for place in np.flatnonzero(allowed).tolist())[:depth]
    found = ranking.cosine(vectors, query, allowed, depth)
    assert [(-found[place], place) for place in ranking.best(found, depth).tolist()] == plain


def test_rankings_are_fused_by_reciprocal_ranks():
    first, second = (np.array([2, 0]), np.array([1, 2])), (np.array([0]), np.array([1]))
    expected = [1 / 62 + 1 / 61, 0, 1 / 61]
    assert ranking.fused(3, [first, second]).tolist() == pytest.approx(expected, abs=1e-9)
