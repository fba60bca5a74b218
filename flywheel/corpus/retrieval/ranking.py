"""Ranking: BM25 over counted terms, nearness of vectors, and both made one by reciprocal ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flywheel.curate.words import Numbers

# How soon a repeated word counts no more, and how much longer documents are held back: the customary values.
K1, B = 1.2, 0.75

# Of each ranking so many are fused, each counted 1 / (DAMPING + rank): Cormack, Clarke and Buettcher 2009.
DEPTH = 1000
DAMPING = 60

# Digits of a score that count: what lies beyond may differ with the order of sums.
DIGITS = 9


class Postings(NamedTuple):
    """Terms of documents: document docs[i] (a place below `size`) has terms[bounds[i]:bounds[i + 1]], ascending.

    `counts` (uint8) says how often each of `terms` (uint32) stands there; `lengths` has the words of documents by
    place.
    """

    size: int
    docs: Numbers
    bounds: Numbers
    terms: Numbers
    counts: Numbers
    lengths: Numbers

    def find(self, query: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Where the terms of a query (ascending) stand: places of documents, places in the query, counts."""
        # Half of a number says of nearly all terms that they are none of these; the rest is compared whole.
        known = np.zeros(1 << 16, np.bool_)
        known[query & 0xFFFF] = True
        maybe = np.flatnonzero(known[self.terms.view("<u2")[::2]])
        term = np.searchsorted(query, self.terms[maybe]).clip(max=len(query) - 1)
        right = query[term] == self.terms[maybe]
        maybe, term = maybe[right], term[right]
        document = self.docs[np.searchsorted(self.bounds, maybe, side="right") - 1]
        return document, term, self.counts[maybe]


def bm25(postings: Postings, query: Numbers) -> Numbers:
    """The score of each document for the distinct terms of a query (uint32, ascending); 0 where none is met.

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", with the weight of a term
    as Lucene takes it, ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
    """
    if not len(query):
        return np.zeros(postings.size)
    document, term, count = postings.find(query)
    often = np.bincount(term, minlength=len(query))
    weight = np.log1p((postings.size - often + 0.5) / (often + 0.5))
    mean = max(postings.lengths.mean(), 1.0)
    held = K1 * (1 - B + B * postings.lengths[document] / mean)
    gained = weight[term] * count * (K1 + 1) / (count + held)
    # Summed in the order of terms, whatever the order in which documents lie.
    order = np.lexsort((term, document))
    return np.round(np.bincount(document[order], gained[order], postings.size), DIGITS)


def cosine(vectors: Numbers, query: Numbers, allowed: Numbers, depth: int) -> Numbers:
    """The similarity of each document, of at least the nearest `depth` of those allowed; -inf for the others.

    `vectors` are of length 1 or 0: (n, size), float32.
    """
    scores = np.full(len(vectors), -np.inf)
    places = np.flatnonzero(allowed)
    if len(places) == len(vectors):
        rough = vectors @ query
    elif len(places) > len(vectors) // 4:
        rough = (vectors @ query)[places]
    else:
        rough = vectors[places] @ query
    # Single precision finds who is near; who is nearest is said in double, so that no order of sums decides it.
    reach = min(len(places), 2 * depth)
    if reach < len(places):
        places = places[np.argpartition(-rough, reach)[:reach]]
    exact = vectors[places].astype(np.float64) @ query.astype(np.float64)
    scores[places] = np.round(exact, DIGITS)
    return scores


def best(scores: Numbers, depth: int, above: float = -np.inf) -> Numbers:
    """The places of the highest scores above a bound, highest first; of equal ones the first place comes first."""
    places = np.flatnonzero(scores > above)
    if len(places) > depth:
        least = -np.partition(-scores[places], depth - 1)[depth - 1]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:depth]


def ranks(scores: Numbers, ordered: Numbers) -> Numbers:
    """The rank of each of `ordered` places, from 1; equal scores have equal ranks."""
    return np.searchsorted(-scores[ordered], -scores[ordered], side="left") + 1


def fused(size: int, rankings: list[tuple[Numbers, Numbers]]) -> Numbers:
    """The sum over rankings (places and their ranks) of 1 / (`DAMPING` + rank), by place; 0 for who is in none."""
    scores = np.zeros(size)
    for places, rank in rankings:
        scores[places] += 1 / (DAMPING + rank)
    return np.round(scores, DIGITS)
