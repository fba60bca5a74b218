"""The index misses no near pair: it is compared with the definition."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.curate.grams import hashed
from flywheel.curate.nearness import Index

words = st.lists(st.sampled_from("abcde"), max_size=12)


def runs(text: list[str], size: int) -> set[tuple[str, ...]]:
    if len(text) < size:
        return {tuple(text)} if text else set()
    return {tuple(text[i : i + size]) for i in range(len(text) - size + 1)}


def by_definition(texts: list[list[str]], docs: list[list[str]], threshold: float, size: int) -> dict:
    found = {}
    for d, doc in enumerate(docs):
        for t, text in enumerate(texts):
            one, other = runs(doc, size), runs(text, size)
            if one and other and len(one & other) / len(one | other) >= threshold:
                found[d, t] = pytest.approx(len(one & other) / len(one | other))
    return found


@given(st.lists(words, max_size=6), st.lists(words, max_size=6), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]))
def test_the_pairs_are_those_of_the_definition(texts, docs, threshold):
    index = Index(pl.Series(texts, dtype=pl.List(pl.String)), threshold, 2)
    found = index.find(hashed(pl.Series(docs, dtype=pl.List(pl.String))))
    assert {(d, t): s for d, t, s in found.iter_rows()} == by_definition(texts, docs, threshold, 2)
