"""Search: trajectories like a task, by their words and by vectors, among captures or the rows of a version."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.corpus.retrieval import ranking
from flywheel.corpus.retrieval.excerpt import WORD, excerpt
from flywheel.corpus.retrieval.searchable import Searchable
from flywheel.curate import hashing, terms
from flywheel.curate.words import Numbers
from flywheel.schema import FlywheelError

Mode = Literal["hybrid", "text", "vector"]

# What a word that says little of a task weighs when an excerpt is chosen.
LITTLE = 0.05

_COMMON = frozenset(hashing.COMMON.split())


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory that was found, best first.

    `score` is that of the mode: fused reciprocal ranks, BM25, or the cosine of vectors. `text_rank` and `vector_rank`
    are its places in the two rankings, where it is in them. `reward`, `success` and `state` are those of the version
    that was searched, else of now. `steps` are rows of `schema.STEP`, where they were asked for.
    """

    rank: int
    score: float
    trajectory_id: str
    workspace: str
    task_id: str
    task_type: str
    agent: str
    model: str
    state: str
    reward: float | None
    success: bool | None
    n_steps: int
    arrived_at: datetime
    text_rank: int | None
    vector_rank: int | None
    excerpt: str
    steps: list[dict[str, Any]] | None = None


class Index(Searchable):
    """What can be searched, to be asked any number of times."""

    def find(
        self, text: str, *, mode: Mode = "hybrid", where: str | None = None, limit: int = 10, steps: bool = False
    ) -> list[Found]:
        """The trajectories that are most like a text, at most `limit`; of equal ones by workspace and id.

        `hybrid` fuses the ranking by words with that by vectors; `text` finds only what has a word of the text.
        `where` is a SQL condition on `filter.COLUMNS` that every one of them meets.

        Raises:
            FlywheelError: when the text has no words, the mode is unknown, or the condition cannot be read.
        """
        best, scores, ranked = self._ranked(text, mode, where, limit)
        return self._told(best, scores, ranked, text, steps)

    def ids(self, text: str, *, mode: Mode = "hybrid", where: str | None = None, limit: int = 10) -> pa.Table:
        """What `find` finds, by name alone: trajectory_id, workspace, score; best first."""
        best, scores, _ = self._ranked(text, mode, where, limit)
        return self._named(best, "score", scores)

    def nearest(self, query: Numbers, *, where: str | None = None, limit: int = 10) -> pa.Table:
        """The trajectories whose vectors are nearest to one: trajectory_id, workspace, similarity; nearest first."""
        allowed = self.passing(where)
        scores = ranking.cosine(self.vectors, query, allowed, limit)
        best = ranking.best(scores, limit)
        return self._named(best, "similarity", scores[best])

    def _named(self, best: Numbers, name: str, values: Numbers) -> pa.Table:
        found = self.candidates.select(["trajectory_id", "workspace"]).take(pa.array(best))
        return found.append_column(name, pa.array(values))

    def _ranked(
        self, text: str, mode: Mode, where: str | None, limit: int
    ) -> tuple[Numbers, Numbers, dict[str, tuple[Numbers, Numbers]]]:
        """The best places with their scores, and the rankings that made them: places and ranks."""
        if mode not in get_args(Mode):
            raise FlywheelError(f"there is no mode {mode!r}; it is one of: {', '.join(get_args(Mode))}")
        query = terms.query_terms(text)
        if not len(query):
            raise FlywheelError("there is nothing to search for: write some words, such as those of a task")
        allowed = self.passing(where)
        depth = limit if mode != "hybrid" else max(limit, ranking.DEPTH)
        ranked: dict[str, tuple[Numbers, Numbers]] = {}
        scores = np.full(len(self), -np.inf)
        if mode != "vector":
            scores = np.where(allowed, ranking.bm25(self.postings, query), -np.inf)
            places = ranking.best(scores, depth, above=0.0)
            ranked["text"] = places, ranking.ranks(scores, places)
        if mode != "text":
            scores = ranking.cosine(self.vectors, self.embedder.query(text), allowed, depth)
            places = ranking.best(scores, depth)
            ranked["vector"] = places, ranking.ranks(scores, places)
        if mode == "hybrid":
            scores = ranking.fused(len(self), list(ranked.values()))
        best = ranking.best(scores, limit, above=-np.inf if mode == "vector" else 0.0)
        return best, scores[best], ranked

    def _told(
        self, best: Numbers, scores: Numbers, ranked: dict[str, tuple[Numbers, Numbers]], text: str, steps: bool
    ) -> list[Found]:
        weights = {word: LITTLE if word in _COMMON else 1.0 for word in (m[0].lower() for m in WORD.finditer(text))}
        place_ranks = {name: dict(zip(*map(np.ndarray.tolist, pair), strict=True)) for name, pair in ranked.items()}
        said = self.steps(best)
        found = []
        for rank, (place, row) in enumerate(zip(best.tolist(), self.candidates.take(best).to_pylist(), strict=True), 1):
            given = {name: row[name] for name in Found.__struct_fields__ if name in row}
            found.append(
                Found(
                    **given,
                    rank=rank,
                    score=float(scores[rank - 1]),
                    text_rank=place_ranks.get("text", {}).get(place),
                    vector_rank=place_ranks.get("vector", {}).get(place),
                    excerpt=excerpt(said[place], weights),
                    steps=said[place] if steps else None,
                )
            )
        return found
