"""Kinship: which captured rows may repeat one another, and so have a part in the decision on each other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate.spec import Spec
from flywheel.curate.words import Numbers, spread
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

# Rows in one batch of a scan: many small ones are read more slowly.
BATCH = 1 << 16

# Numbers that are looked at together: what is made of them stays in the processor's cache.
BLOCK = 1 << 14


class Kinship(Protocol):
    """One way in which rows may be related."""

    def of(self, some: Numbers) -> Numbers:
        """The ids of the rows that are related to one with one of these ids, themselves perhaps included.

        Ids are numbers (`numbered`), here and in the answer, where one may stand several times.
        """
        ...


class Part(NamedTuple):
    """Some captured rows: their ids (a table with a column trajectory_id), and where those of these ids stand.

    `places` are offsets in the table of prepared rows, `printed` in that of fingerprints, where there is one.
    """

    ids: pa.Table
    rows: LanceDataset
    places: Numbers
    prints: LanceDataset | None
    printed: Numbers


class Kin:
    """What makes rows duplicates of each other by a spec (`dedupe.duplicates`), over all captured rows.

    Only columns of numbers and digests are read, and nothing is compared: rows that share a bucket are taken for kin,
    as are ids and digests of the same number.
    """

    def __init__(self, home: Home, spec: Spec) -> None:
        self._rows = prepared.bring(home, spec.workspace)
        columns = ["task_id", "effects"] * spec.same_effects + ["chain"] * spec.prefix_duplicates
        with derived.reading(self._rows.uri):
            table = self._rows.to_table(columns=["id", *columns], scan_in_order=True, batch_size=BATCH)
            # Rows of equal content begin alike: where that is asked, only those without a step are left to ask.
            only = "n_steps = 0" if spec.prefix_duplicates else None
            contents = self._rows.to_table(columns=["id", "content_digest"], filter=only, batch_size=BATCH)
        self._ids = numbered(table["id"])
        self._ways: list[Kinship] = [Equal(numbered(contents["id"]), numbered(contents["content_digest"]))]
        if spec.same_effects:
            acted = table["effects"].is_valid().to_numpy()
            effects = (
                pl.DataFrame(pl.from_arrow(table.select(["task_id", "effects"]))).hash_rows().to_numpy().view(np.int64)
            )
            self._ways.append(Equal(self._ids[acted], effects[acted]))
        if spec.prefix_duplicates:
            self._ways.append(Overlapping(self._ids, table["chain"]))
        self._prints, self._printed = None, np.zeros(0, np.int64)
        if spec.near_duplicates is not None:
            self._prints = derived.bring(home, spec.workspace, fingerprint.derivation(spec.near_duplicates))
            with derived.reading(self._prints.uri):
                prints = self._prints.to_table(columns=["id", "buckets"], scan_in_order=True, batch_size=BATCH)
            self._printed = numbered(prints["id"])
            self._ways.append(Sharing(self._printed, prints["buckets"]))

    def of(self, ids: pa.ChunkedArray, share: float, few: int) -> Part | None:
        """The rows with one of these ids, and all that are related to them, to their kin, and so on.

        None where they are more than a share of all rows, and more than a few.
        """
        seen = frontier = np.unique(numbered(ids))
        while len(frontier):
            if len(seen) > max(share * len(self._ids), few):
                return None
            found = np.concatenate([way.of(frontier) for way in self._ways])
            frontier = np.setdiff1d(found, seen)
            seen = np.union1d(seen, frontier)
        places = among(self._ids, seen)
        known = pl.Series(pl.from_arrow(prepared.placed(self._rows, places, ["id"])["id"])).unique().sort()
        return Part(
            ids=pa.table({"trajectory_id": known.to_arrow().cast(pa.string())}),
            rows=self._rows,
            places=places,
            prints=self._prints,
            printed=among(self._printed, seen),
        )


def numbered(texts: pa.ChunkedArray) -> Numbers:
    """A number (int64) for each text, the same for equal ones in one process."""
    return pl.Series(pl.from_arrow(texts)).hash().to_numpy().view(np.int64)


def among(numbers: Numbers, wanted: Numbers) -> Numbers:
    """The places, ascending, of the numbers that are among those wanted."""
    wanted = np.unique(wanted)
    # Looks into two tables of 16 slots a number leave few to search for, which costs many times as much.
    mask = (1 << (16 * len(wanted)).bit_length()) - 1
    low, high = np.zeros((2, mask + 1), np.bool_)
    low[wanted & mask] = True
    high[(wanted >> 32) & mask] = True
    likely = [np.zeros(0, np.int64)]
    for start in range(0, len(numbers), BLOCK):
        block = numbers[start : start + BLOCK]
        places = np.flatnonzero(low[block & mask])
        likely.append(start + places[high[(block[places] >> 32) & mask]])
    places = np.concatenate(likely)
    found = np.minimum(np.searchsorted(wanted, numbers[places]), len(wanted) - 1)
    return places[wanted[found] == numbers[places]]


class Equal:
    """Rows that are equal in what a number stands for."""

    def __init__(self, ids: Numbers, values: Numbers) -> None:
        self._ids, self._values = ids, values

    def of(self, some: Numbers) -> Numbers:
        return self._ids[among(self._values, self._values[among(self._ids, some)])]


class Sharing:
    """Rows that share a number of a list of theirs."""

    def __init__(self, ids: Numbers, lists: pa.ChunkedArray) -> None:
        self._ids, self._lists = ids, Lists(lists)

    def of(self, some: Numbers) -> Numbers:
        return self._ids[self._lists.holding(self._lists.of(among(self._ids, some)))]


class Overlapping:
    """Conversations of which one is the beginning of the other, by their chains (`digests`)."""

    def __init__(self, ids: Numbers, chains: pa.ChunkedArray) -> None:
        self._ids, self._chains = ids, Lists(chains)
        self._some, self._ends = self._chains.ends()

    def of(self, some: Numbers) -> Numbers:
        asked = among(self._ids, some)
        longer = self._chains.holding(self._ends[among(self._some, asked)])
        shorter = self._some[among(self._ends, self._chains.of(asked))]
        return self._ids[np.concatenate([longer, shorter])]


class Lists:
    """A list of numbers of each row, as they were read, batch by batch: nothing is copied."""

    def __init__(self, lists: pa.ChunkedArray) -> None:
        self._parts = [(chunk.flatten().to_numpy(), _bounds(chunk)) for chunk in lists.chunks]
        self._first = np.cumsum([0, *(len(chunk) for chunk in lists.chunks)])

    def of(self, rows: Numbers) -> Numbers:
        """The numbers of some rows, given in ascending order."""
        found = [np.zeros(0, np.int64)]
        starts = np.searchsorted(rows, self._first)
        for (values, bounds), first, (start, end) in zip(self._parts, self._first, pairwise(starts), strict=False):
            places = rows[start:end] - first
            found.append(values[spread(bounds[places], bounds[places + 1] - bounds[places])])
        return np.concatenate(found)

    def holding(self, wanted: Numbers) -> Numbers:
        """The rows that have one of these numbers, ascending; each as often as it has one."""
        found = [np.zeros(0, np.int64)]
        for (values, bounds), first in zip(self._parts, self._first, strict=False):
            found.append(first + np.searchsorted(bounds, among(values, wanted), side="right") - 1)
        return np.concatenate(found)

    def ends(self) -> tuple[Numbers, Numbers]:
        """The rows that have numbers, and the last of each."""
        rows, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for (values, bounds), first in zip(self._parts, self._first, strict=False):
            some = np.flatnonzero(np.diff(bounds))
            rows.append(first + some)
            ends.append(values[bounds[some + 1] - 1])
        return np.concatenate(rows), np.concatenate(ends)


def _bounds(lists: pa.Array) -> Numbers:
    """Where each list begins among the flattened values, and where the last one ends."""
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
