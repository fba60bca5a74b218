"""What can be searched: trajectories of workspaces or of a version, with their verdicts, words and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture import workspaces as registered
from flywheel.corpus import selection
from flywheel.corpus.catalog import reward_policies
from flywheel.corpus.manifest import Manifest
from flywheel.corpus.retrieval.ranking import Postings
from flywheel.curate import derived, embeddings, prepared, terms
from flywheel.curate import filter as filters
from flywheel.curate.derivation import Derivation
from flywheel.curate.embeddings import Embedder
from flywheel.curate.words import Numbers
from flywheel.outcomes.join import joined
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

# Told what is brought up to date, the rows done and all rows to do.
Progress = Callable[[str, int, int], None]

VERDICT = ("reward", "success", "state")


class Searchable:
    """The trajectories of workspaces, or of a version, as they stand when this is made.

    `candidates` has a row for each: workspace, content_digest and `filter.COLUMNS`, ordered by workspace and id; places
    are counted in it.

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

    def passing(self, where: str | None) -> Numbers:
        """Which of the candidates meet a SQL condition on `filter.COLUMNS`; all where there is none."""
        if where is None:
            return np.ones(len(self), np.bool_)
        answers = []
        for start, end in zip(self._bounds[:-1], self._bounds[1:], strict=True):
            answer = pl.DataFrame(filters.passes(self.candidates.slice(start, end - start), where))
            answers.append(answer.sort("trajectory_id")["passes"].to_numpy())
        return np.concatenate(answers)

    @cached_property
    def vectors(self) -> Numbers:
        """The vector of each candidate: float32, (n, size of the embedder)."""
        derivation = embeddings.derivation(self.embedder)
        found = np.zeros((len(self), self.embedder.size), np.float32)
        for dataset, places in self._stored(derivation):
            for start, batch in _scanned(dataset, ["vector"]):
                place = places[start : start + len(batch)]
                values = batch.column("vector").flatten().to_numpy().reshape(len(batch), -1)
                found[place[place >= 0]] = values[place >= 0]
        return found

    @cached_property
    def postings(self) -> Postings:
        """The terms of each candidate."""
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
        return Postings(len(self), joined["docs"], bounds, joined["terms"], joined["counts"], lengths)

    def steps(self, places: Numbers) -> dict[int, list[dict[str, Any]]]:
        """The steps of the trajectories at some places."""
        said: dict[int, list[dict[str, Any]]] = {}
        for start, end, rows in zip(self._bounds[:-1], self._bounds[1:], self._rows.values(), strict=True):
            own = places[(places >= start) & (places < end)]
            if len(own):
                taken = prepared.placed(rows, self._offsets[own], ["steps"])["steps"].to_pylist()
                said |= dict(zip(own.tolist(), taken, strict=True))
        return said

    def _brought(self, workspace: str, derivation: Derivation) -> LanceDataset:
        told = self._progress
        progress = (lambda done, of: told(f"{derivation.name} of {workspace}", done, of)) if told else None
        return derived.bring(self._home, workspace, derivation, progress=progress)

    def _stored(self, derivation: Derivation) -> list[tuple[LanceDataset, Numbers]]:
        """The derived table of each workspace, with the place among the candidates of each of its rows, or -1."""
        found = []
        for workspace, start, end in zip(self.workspaces, self._bounds[:-1], self._bounds[1:], strict=True):
            dataset = self._brought(workspace, derivation)
            found.append((dataset, _places(dataset, self.candidates.slice(start, end - start), int(start))))
        return found

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
