"""A version opened to be asked many times: what is light of its rows in memory, texts read where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel.corpus import selection, store
from flywheel.corpus.manifest import Manifest
from flywheel.curate import derived, prepared
from flywheel.curate import filter as filters
from flywheel.curate.prepared import MARKS
from flywheel.curate.scattered import scattered, sparse
from flywheel.curate.words import Numbers, spread
from flywheel.schema import STEP, FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset


class Opened:
    """The rows of a version, or of one side of its split, as they stand when this is made.

    `rows` has one for each: `filter.COLUMNS`, content_digest, split and row_digest, ordered by trajectory_id. What
    `where`, or any query of polars, leaves of them is what `steps` and `take` are asked for, in any order and as often
    as it stands there:

        version = Opened(home, manifest(home, "desk"))
        best = version.where("success AND n_steps < 20").sort("reward", descending=True).head(100)
        version.steps(best.select("trajectory_id", "reward"), ["role", "tool_name"])

    Held in memory are some 500 bytes a row and, once steps were asked for, 25 bytes a step. After an erasure open it
    anew: what was forgotten leaves the disk, and whoever holds the state before may find nothing there.

    Raises:
        FlywheelError: when the split is unknown, or the version's data is missing or damaged.
    """

    def __init__(self, home: Home, of: Manifest, split: str | None = None) -> None:
        kept = selection.selected(home, of, split)
        rows = selection.described(home, of, kept)
        self._dataset = derived.opened(home, of.recipe["workspace"], prepared.ROWS)
        keys = kept.select(["trajectory_id", "content_digest"]).rename_columns(["id", "content_digest"])
        self._positions = prepared.positions(self._dataset, keys)
        self._scattered = scattered(self._dataset)
        self._candidates = filters.Candidates(rows)
        self.rows = _frame(rows).hstack(_frame(kept.select(["content_digest", "split", "row_digest"])))

    def where(self, condition: str) -> pl.DataFrame:
        """The rows that meet a SQL condition on `filter.COLUMNS`, as in a spec.

        Raises:
            FlywheelError: when the condition cannot be read, or names something else.
        """
        return self.rows.filter(self._candidates.passing(condition))

    def steps(self, rows: pl.DataFrame, columns: Sequence[str] = MARKS) -> pl.DataFrame:
        """The steps of some rows, in their order: the rows' columns, step_index (from 0), and columns of `schema.STEP`.

        `rows` have a column trajectory_id. Of columns beside `MARKS` only those that are named are read, and of
        these rows alone.

        Raises:
            FlywheelError: when a row is not of this version, or there is no such column.
        """
        if unknown := [name for name in columns if name not in STEP.names]:
            raise FlywheelError(f"steps have no column {unknown[0]!r}; they have: {', '.join(STEP.names)}")
        places = self._places(rows)
        light, starts, sizes = self._light
        sizes, at = sizes[places], spread(starts[places], sizes[places])
        found = {name: light[name].gather(at) for name in columns if name in MARKS}
        if heavy := [name for name in columns if name not in MARKS]:
            said, starts, _ = self._read(places, heavy)
            at = spread(starts, sizes)
            found |= {name: said[name].gather(at) for name in heavy}
        steps = pl.DataFrame(found).cast({pl.Categorical: pl.String})
        numbers = pl.Series("step_index", spread(np.zeros_like(sizes), sizes), pl.Int32)
        return rows[np.repeat(np.arange(len(rows)), sizes)].hstack([numbers, *steps.select(columns)])

    def take(self, rows: pl.DataFrame, columns: Sequence[str] | None = None) -> pa.Table:
        """Whole rows, in columns of `store.ROWS`, in the order of `rows` (with a column trajectory_id).

        Raises:
            FlywheelError: when a row is not of this version, or there is no such column.
        """
        schema = store.schema_of(columns)
        places = self._places(rows)
        selected = self.rows.select(selection.SELECTED.names)[places].rename({"trajectory_id": "id"}).to_arrow()
        others = [name for name in schema.names if name not in selected.column_names]
        return store.beside(prepared.placed(*self._at(places), others) if others else selected, selected, schema)

    def packed(self, rows: pl.DataFrame) -> pa.ChunkedArray:
        """The conversations of some rows in their order as they are stored, to be unpacked elsewhere, or later.

        `packed.unpacked` gives their steps.

        Raises:
            FlywheelError: when a row is not of this version.
        """
        return prepared.conversations(*self._at(self._places(rows)))

    @cached_property
    def _light(self) -> tuple[pl.DataFrame, Numbers, Numbers]:
        """The columns `MARKS` of all steps."""
        flat, starts, sizes = self._read(np.arange(len(self.rows)), MARKS)
        return flat.with_columns(pl.col(pl.String).cast(pl.Categorical)), starts, sizes

    def _read(self, places: Numbers, columns: Sequence[str]) -> tuple[pl.DataFrame, Numbers, Numbers]:
        """Columns of the steps of the rows at some places; where those of each row begin, and how many they are."""
        distinct, order = np.unique(places, return_inverse=True)
        lists = prepared.steps(*self._at(distinct), columns)
        bounds = lists.offsets.to_numpy().astype(np.int64) - lists.offsets[0].as_py()
        flat = pl.DataFrame(pa.Table.from_struct_array(lists.flatten()))
        return flat.select(columns), bounds[:-1][order], np.diff(bounds)[order]

    def _at(self, places: Numbers) -> tuple[LanceDataset, Numbers]:
        """What the rows at some places are read from, and where they stand in it."""
        positions = self._positions[places]
        return self._scattered if sparse(positions) else self._dataset, positions

    def _places(self, rows: pl.DataFrame) -> Numbers:
        """Where some rows stand in `rows`."""
        known, asked = self.rows["trajectory_id"], rows["trajectory_id"]
        places = known.search_sorted(asked).to_numpy()
        found = known.gather(np.minimum(places, len(known) - 1)) if len(known) else known.clear(len(asked))
        if absent := asked.filter(found.ne_missing(asked)).to_list():
            raise FlywheelError(f"trajectory {absent[0]!r} is not among the rows that are open")
        return places


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
