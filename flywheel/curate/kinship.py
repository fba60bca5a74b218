"""Kinship: which captured rows may repeat one another, and so have a part in the decision on each other."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate.spec import Spec
from flywheel.curate.words import Numbers
from flywheel.settings import Home


class Kinship(Protocol):
    """One way in which rows may be related; `ids` are those of all rows."""

    ids: pl.Series

    def of(self, some: pl.Series) -> pl.Series:
        """The ids of the rows that are related to one of those with these ids, themselves perhaps included."""
        ...


def kinships(home: Home, spec: Spec) -> list[Kinship]:
    """What makes rows duplicates of each other by a spec (`dedupe.duplicates`), over all captured rows.

    Only columns of numbers and digests are read, and nothing is compared: rows that share a bucket are taken for kin.
    """
    rows = prepared.bring(home, spec.workspace)
    columns = ["id", "content_digest", "task_id", "effects"]
    with derived.reading(rows.uri):
        table = rows.to_table(columns=columns + ["chain"] * spec.prefix_duplicates, scan_in_order=True)
    frame = pl.DataFrame(pl.from_arrow(table.select(columns)))
    found: list[Kinship] = [Equal(frame, ["content_digest"])]
    if spec.same_effects:
        found.append(Equal(frame, ["task_id", "effects"]))
    if spec.prefix_duplicates:
        found.append(Overlapping(frame["id"], pl.Series(pl.from_arrow(table["chain"]))))
    if spec.near_duplicates is not None:
        prints = derived.bring(home, spec.workspace, fingerprint.derivation(spec.near_duplicates))
        with derived.reading(prints.uri):
            printed = prints.to_table(columns=["id", "buckets"], scan_in_order=True)
        found.append(Sharing(pl.Series(pl.from_arrow(printed["id"])), pl.Series(pl.from_arrow(printed["buckets"]))))
    return found


class Equal:
    """Rows that are equal in some columns; a null equals nothing."""

    def __init__(self, rows: pl.DataFrame, columns: list[str]) -> None:
        self.ids, self._rows, self._columns = rows["id"], rows, columns

    def of(self, some: pl.Series) -> pl.Series:
        values = self._rows.filter(self.ids.is_in(some.implode())).select(self._columns).unique()
        return self._rows.select("id", *self._columns).join(values, on=self._columns, how="semi")["id"]


class Overlapping:
    """Conversations of which one is the beginning of the other, by their chains (`digests`)."""

    def __init__(self, ids: pl.Series, chains: pl.Series) -> None:
        self.ids = ids
        self._steps, self._bounds = _flat(chains)
        self._some = np.flatnonzero(np.diff(self._bounds))
        self._ends = self._steps.gather(self._bounds[self._some + 1] - 1)

    def of(self, some: pl.Series) -> pl.Series:
        asked = self.ids.is_in(some.implode()).to_numpy()
        steps = self._steps.filter(pl.Series(np.repeat(asked, np.diff(self._bounds)))).unique()
        ends = self._ends.filter(pl.Series(asked[self._some])).unique()
        longer = np.flatnonzero(self._steps.is_in(ends.implode()).to_numpy())
        shorter = self._some[self._ends.is_in(steps.implode()).to_numpy()]
        rows = np.searchsorted(self._bounds, longer, side="right") - 1
        return self.ids.gather(np.concatenate([rows, shorter]))


class Sharing:
    """Rows that share a number of a list of theirs."""

    def __init__(self, ids: pl.Series, lists: pl.Series) -> None:
        self.ids = ids
        self._values, self._bounds = _flat(lists)

    def of(self, some: pl.Series) -> pl.Series:
        asked = self.ids.is_in(some.implode()).to_numpy()
        values = self._values.filter(pl.Series(np.repeat(asked, np.diff(self._bounds)))).unique()
        places = np.flatnonzero(self._values.is_in(values.implode()).to_numpy())
        return self.ids.gather(np.searchsorted(self._bounds, places, side="right") - 1)


def _flat(lists: pl.Series) -> tuple[pl.Series, Numbers]:
    """The values of all lists, and where each list begins among them and the last one ends."""
    sizes = lists.list.len().fill_null(0).to_numpy()
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    return lists.filter(lists.list.len() > 0).explode(), bounds
