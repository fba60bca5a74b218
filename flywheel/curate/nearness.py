"""Near texts, exactly: an index over few texts that says which of many others share nearly all of their runs."""

from __future__ import annotations

import numpy as np
import polars as pl

from flywheel.curate import grams


class Index:
    """Sets of runs of words, found by their rarest members.

    Sets whose Jaccard similarity reaches t share a run among the rarest |x| - ceil(t |x|) + 1 of each, in one
    order of all runs, and their sizes lie within a factor of t. So only those runs are joined, and the pairs that
    remain are measured exactly: nothing is missed, and nothing is signed or hashed into bands.
    Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"; Xiao et al. 2008, PPJoin.
    """

    def __init__(self, words: pl.Series, threshold: float, size: int) -> None:
        self._threshold, self._size = threshold, size
        texts, values = grams.distinct(*grams.shingles(grams.hashed(words), size))
        self._vocabulary = grams.Vocabulary(values)
        _, ranks = self._vocabulary.find(values)
        count = np.bincount(ranks, minlength=len(self._vocabulary.values))
        # The order of all runs: the rarest first, then by hash.
        order = np.empty(len(count), np.int64)
        order[np.lexsort((self._vocabulary.values, count))] = np.arange(len(count))
        self._order = order
        sets = pl.DataFrame({"text": texts.astype(np.uint32), "run": order[ranks]}).sort("text", "run")
        self._sets = sets.with_columns(total=pl.len().over("text").cast(pl.Int64))
        self._first = self._sets.filter(pl.int_range(pl.len()).over("text") < self._reach(pl.col("total")))
        self._least = int(self._sets["total"].min() or 0)  # pyright: ignore[reportArgumentType]

    def _reach(self, total: pl.Expr) -> pl.Expr:
        """How many of a set's rarest runs must be looked at."""
        return total - (self._threshold * total - 1e-9).ceil().cast(pl.Int64) + 1

    def find(self, words: grams.Words) -> pl.DataFrame:
        """Pairs that reach the threshold: columns doc (place in `words`), text (place in the index), similarity."""
        if not len(self._sets):
            return pl.DataFrame(schema={"doc": pl.UInt32, "text": pl.UInt32, "similarity": pl.Float64})
        docs, values = grams.shingles(words, self._size)
        known, ranks = self._vocabulary.find(values)
        # Enough of a document's runs must be known at all; most documents end here.
        often = np.bincount(docs[known], minlength=len(words.offsets) - 1)
        likely = often >= self._threshold * self._least - 1e-9
        rows = np.flatnonzero(likely[docs])
        rank = np.full(len(values), -1, np.int64)
        rank[known] = self._order[ranks]
        runs = pl.DataFrame({"doc": docs[rows].astype(np.uint32), "value": values[rows], "run": rank[rows]}).unique()
        runs = runs.with_columns(
            total=pl.len().over("doc").cast(pl.Int64), strange=(pl.col("run") < 0).sum().over("doc").cast(pl.Int64)
        )
        sets = runs.filter((pl.col("run") >= 0) & (self._reach(pl.col("total")) > pl.col("strange")))
        sets = sets.sort("doc", "run")
        # Strange runs are the rarest of all: they take their part of what must be looked at.
        first = sets.filter(
            pl.int_range(pl.len()).over("doc").cast(pl.Int64) < self._reach(pl.col("total")) - pl.col("strange")
        )
        sizes = (pl.col("total") >= self._threshold * pl.col("total_text") - 1e-9) & (
            pl.col("total_text") >= self._threshold * pl.col("total") - 1e-9
        )
        pairs = (
            first.select("doc", "run", "total")
            .join(self._first, on="run", suffix="_text")
            .filter(sizes)
            .select("doc", "text", "total", "total_text")
            .unique()
        )
        shared = (
            pairs.join(self._sets.select("text", "run"), on="text")
            .join(sets.select("doc", "run"), on=["doc", "run"], how="semi")
            .group_by("doc", "text", "total", "total_text")
            .agg(shared=pl.len().cast(pl.Int64))
        )
        similarity = pl.col("shared") / (pl.col("total") + pl.col("total_text") - pl.col("shared"))
        return (
            shared.select("doc", "text", similarity=similarity)
            .filter(pl.col("similarity") >= self._threshold - 1e-9)
            .sort("doc", "text")
        )
