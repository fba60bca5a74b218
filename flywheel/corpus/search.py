"""Search: trajectories like a task, by their words and by vectors, among captures or the rows of a version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture import workspaces as registered
from flywheel.corpus import ranking, selection
from flywheel.corpus.catalog import reward_policies
from flywheel.corpus.excerpt import WORD, excerpt
from flywheel.corpus.manifest import Manifest
from flywheel.curate import derived, embeddings, hashing, prepared, terms
from flywheel.curate import filter as filters
from flywheel.curate.derived import Derivation
from flywheel.curate.embeddings import Embedder
from flywheel.curate.words import Numbers
from flywheel.outcomes.join import joined
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

Mode = Literal["hybrid", "text", "vector"]

# Told what is brought up to date, the rows done and all rows to do.
Progress = Callable[[str, int, int], None]

VERDICT = ("reward", "success", "state")

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


class Index:
    """The trajectories of workspaces, or of a version, as they stand when this is made; to be asked many times.

    All that was captured is in it: what was not known yet is read and embedded first, as far as a mode asks for it.
    Words and vectors are held in memory once they were asked for, some 3 kB a trajectory.

    Raises:
        FlywheelError: when there is no such workspace, or nothing to search.
    """

    def __init__(
        self,
        home: Home,
        workspaces: Sequence[str] = (),
        within: Manifest | None = None,
        embedder: Embedder | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._home, self._progress = home, progress
        self.embedder = embedder or embeddings.embedder()
        known = registered.names(home)
        self.workspaces = sorted({within.recipe["workspace"]} if within else set(workspaces) or known)
        for workspace in self.workspaces:
            registered.require(home, workspace)
        now = datetime.now(UTC)
        self._rows = {workspace: self._brought(workspace, prepared.ROWS) for workspace in self.workspaces}
        parts = [_candidates(home, workspace, rows, within, now) for workspace, rows in self._rows.items()]
        self.candidates = pa.concat_tables(parts).combine_chunks() if parts else pa.table({"workspace": []})
        self._bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        if not len(self.candidates):
            where = (
                within.ref if within else f"workspace {', '.join(self.workspaces)}" if workspaces else "the data folder"
            )
            raise FlywheelError(
                f"there is nothing to search: {where} holds no trajectory; "
                "bring some in with: flywheel ingest PATH --workspace NAME"
            )

    def __len__(self) -> int:
        return len(self.candidates)

    def find(
        self, text: str, *, mode: Mode = "hybrid", where: str | None = None, limit: int = 10, steps: bool = False
    ) -> list[Found]:
        """The trajectories that are most like a text, at most `limit`; of equal ones by workspace and id.

        `hybrid` fuses the ranking by words with that by vectors; `text` finds only what has a word of the text.
        `where` is a SQL condition on `filter.COLUMNS` that every one of them meets.

        Raises:
            FlywheelError: when the text has no words, the mode is unknown, or the condition cannot be read.
        """
        if mode not in get_args(Mode):
            raise FlywheelError(f"there is no mode {mode!r}; it is one of: {', '.join(get_args(Mode))}")
        query = terms.query_terms(text)
        if not len(query):
            raise FlywheelError("there is nothing to search for: write some words, such as those of a task")
        allowed = np.ones(len(self), np.bool_) if where is None else self._passing(where)
        depth = limit if mode != "hybrid" else max(limit, ranking.DEPTH)
        ranked: dict[str, tuple[Numbers, Numbers]] = {}
        scores = np.full(len(self), -np.inf)
        if mode != "vector":
            scores = np.where(allowed, ranking.bm25(self._postings, query), -np.inf)
            places = ranking.best(scores, depth, above=0.0)
            ranked["text"] = places, ranking.ranks(scores, places)
        if mode != "text":
            scores = ranking.cosine(self._vectors, self.embedder.query(text), allowed, depth)
            places = ranking.best(scores, depth)
            ranked["vector"] = places, ranking.ranks(scores, places)
        if mode == "hybrid":
            scores = ranking.fused(len(self), list(ranked.values()))
        best = ranking.best(scores, limit, above=-np.inf if mode == "vector" else 0.0)
        return self._told(best, scores[best], ranked, text, steps)

    def nearest(self, query: Numbers, *, where: str | None = None, limit: int = 10) -> pa.Table:
        """The trajectories whose vectors are nearest to one: trajectory_id, workspace, similarity; nearest first."""
        allowed = np.ones(len(self), np.bool_) if where is None else self._passing(where)
        scores = ranking.cosine(self._vectors, query, allowed, limit)
        best = ranking.best(scores, limit)
        found = self.candidates.select(["trajectory_id", "workspace"]).take(pa.array(best))
        return found.append_column("similarity", pa.array(scores[best]))

    def _brought(self, workspace: str, derivation: Derivation) -> LanceDataset:
        told = self._progress
        progress = (lambda done, of: told(f"{derivation.name} of {workspace}", done, of)) if told else None
        return derived.bring(self._home, workspace, derivation, progress=progress)

    def _passing(self, where: str) -> Numbers:
        answers = []
        for start, end in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            answer = pl.DataFrame(filters.passes(self.candidates.slice(start, end - start), where))
            answers.append(answer.sort("trajectory_id")["passes"].to_numpy())
        return np.concatenate(answers)

    @cached_property
    def _vectors(self) -> Numbers:
        derivation = embeddings.derivation(self.embedder)
        vectors = np.zeros((len(self), self.embedder.size), np.float32)
        for dataset, places in self._stored(derivation):
            for start, batch in _scanned(dataset, ["vector"]):
                place = places[start : start + len(batch)]
                values = batch.column("vector").flatten().to_numpy().reshape(len(batch), -1)
                vectors[place[place >= 0]] = values[place >= 0]
        return vectors

    @cached_property
    def _postings(self) -> ranking.Postings:
        columns: dict[str, list[Numbers]] = {name: [] for name in ("docs", "sizes", *terms.TERMS.names)}
        for dataset, places in self._stored(terms.ROWS):
            for start, batch in _scanned(dataset, terms.TERMS.names):
                place = places[start : start + len(batch)]
                some = batch.filter(pa.array(place >= 0))
                columns["docs"].append(place[place >= 0])
                columns["sizes"].append(some.column("terms").value_lengths().to_numpy())
                columns["n_words"].append(some.column("n_words").to_numpy())
                for name in ("terms", "counts"):
                    columns[name].append(some.column(name).flatten().to_numpy())
        joined = {name: np.concatenate(values) for name, values in columns.items() if values}
        lengths = np.zeros(len(self), np.int64)
        lengths[joined["docs"]] = joined["n_words"]
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(joined["sizes"], dtype=np.int64)])
        return ranking.Postings(len(self), joined["docs"], bounds, joined["terms"], joined["counts"], lengths)

    def _stored(self, derivation: Derivation) -> list[tuple[LanceDataset, Numbers]]:
        """The derived table of each workspace, with the place among the candidates of each of its rows, or -1."""
        found = []
        for workspace, start, end in zip(self.workspaces, self._bounds[:-1], self._bounds[1:], strict=True):
            dataset = self._brought(workspace, derivation)
            found.append((dataset, _places(dataset, self.candidates.slice(start, end - start), int(start))))
        return found

    def _told(
        self, best: Numbers, scores: Numbers, ranked: dict[str, tuple[Numbers, Numbers]], text: str, steps: bool
    ) -> list[Found]:
        weights = {word: LITTLE if word in _COMMON else 1.0 for word in (m[0].lower() for m in WORD.finditer(text))}
        place_ranks = {name: dict(zip(*map(np.ndarray.tolist, pair), strict=True)) for name, pair in ranked.items()}
        said = self._said(best)
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

    def _said(self, best: Numbers) -> dict[int, list[dict[str, Any]]]:
        """The steps of the trajectories at some places."""
        said: dict[int, list[dict[str, Any]]] = {}
        for start, end, rows in zip(self._bounds[:-1], self._bounds[1:], self._rows.values(), strict=True):
            own = best[(best >= start) & (best < end)]
            if len(own):
                with derived.reading(rows.uri):
                    steps = rows.take(self._offsets[own], columns=["steps"])["steps"].to_pylist()
                said |= dict(zip(own.tolist(), steps, strict=True))
        return said

    @cached_property
    def _offsets(self) -> Numbers:
        """Where the row of each candidate stands in the prepared rows of its workspace."""
        keys = self.candidates.select(["trajectory_id", "content_digest"]).rename_columns(["id", "content_digest"])
        parts = zip(self._bounds[:-1], self._bounds[1:], self._rows.values(), strict=True)
        return np.concatenate([prepared.positions(rows, keys.slice(start, end - start)) for start, end, rows in parts])


def _candidates(home: Home, workspace: str, rows: LanceDataset, within: Manifest | None, now: datetime) -> pa.Table:
    """What can be found in a workspace: workspace, content_digest and `filter.COLUMNS`, ordered by trajectory_id."""
    if within:
        verdicts = selection.selected(home, within)
    else:
        verdicts = joined(home, workspace, reward_policies(home).get(workspace, RewardPolicy()), now)
    captured = [name for name in filters.COLUMNS if name not in (*VERDICT, "trajectory_id")]
    light = prepared.light(rows, within.as_of if within else now, ["id", "content_digest", *captured])
    with warehouse.connect() as connection:
        connection.register("verdicts", verdicts.select(["trajectory_id", *VERDICT]))
        connection.register("light", light)
        return connection.sql(
            f"""
            SELECT $workspace AS workspace, content_digest, {", ".join(filters.COLUMNS)}
            FROM light JOIN verdicts ON id = trajectory_id ORDER BY trajectory_id
            """,
            params={"workspace": workspace},
        ).to_arrow_table()


def _places(dataset: LanceDataset, candidates: pa.Table, first: int) -> Numbers:
    """The place of each row of a derived table among the candidates, counted from `first`; -1 for all others."""
    with derived.reading(dataset.uri):
        stored = dataset.to_table(columns=["id", "content_digest"], scan_in_order=True)
    with warehouse.connect() as connection:
        connection.register("stored", stored.append_column("number", pa.array(np.arange(len(stored)))))
        connection.register(
            "candidates", candidates.append_column("place", pa.array(np.arange(len(candidates)) + first))
        )
        # A record that was captured twice stands in two files; either will do.
        found = connection.sql(
            """
            SELECT min(number) AS number, place
            FROM stored AS s JOIN candidates AS c ON s.id = c.trajectory_id AND s.content_digest = c.content_digest
            GROUP BY place
            """
        ).to_arrow_table()
    places = np.full(len(stored), -1, np.int64)
    places[found["number"].to_numpy()] = found["place"].to_numpy()
    return places


def _scanned(dataset: LanceDataset, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a table in their order, a few thousand at a time, with the number of the first of them."""
    start = 0
    with derived.reading(dataset.uri):
        for batch in dataset.scanner(columns=columns, batch_size=8192, scan_in_order=True).to_batches():
            yield start, batch
            start += len(batch)
