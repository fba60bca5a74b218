"""Kinship: which captured rows may repeat one another, and so have a part in the decision on each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate.part import Part
from flywheel.curate.scattered import scattered
from flywheel.curate.spec import Spec
from flywheel.curate.words import Numbers, bounds_of, spread
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


class Kin:
    """What makes rows duplicates of each other by a spec (`dedupe.duplicates`), over all captured rows.

    Only columns of numbers and digests are read, and nothing is compared: rows that share a bucket are taken for kin,
    as are ids and digests of the same number.
    """

    def __init__(self, home: Home, spec: Spec) -> None:
        near = spec.near_duplicates
        self._rows = prepared.bring(home, spec.workspace)
        self._prints = derived.bring(home, spec.workspace, fingerprint.derivation(near)) if near else None
        columns = ["task_id", "effects"] * spec.same_effects + ["chain"] * spec.prefix_duplicates
        # Rows of equal content begin alike: where that is asked, only those without a step are left to ask.
        stepless = "n_steps = 0" if spec.prefix_duplicates else None
        # Two tables are read at once: each waits most of its time for the disk, or for memory.
        with ThreadPoolExecutor(1) as beside:
            prints = beside.submit(_read, self._prints, ["id", "buckets"]) if self._prints else None
            rows = _read(self._rows, ["id", *columns])
            contents = _read(self._rows, ["id", "content_digest"], stepless)
        self._ids = numbered(rows["id"])
        self._ways: list[Kinship] = [Equal(numbered(contents["id"]), numbered(contents["content_digest"]))]
        if spec.same_effects:
            acted = rows["effects"].is_valid().to_numpy()
            both = pl.DataFrame(pl.from_arrow(rows.select(["task_id", "effects"])))
            self._ways.append(Equal(self._ids[acted], both.hash_rows().to_numpy().view(np.int64)[acted]))
        if spec.prefix_duplicates:
            self._ways.append(Overlapping(self._ids, rows["chain"]))
        self._printed = np.zeros(0, np.int64)
        if prints:
            self._printed = numbered(prints.result()["id"])
            self._ways.append(Sharing(self._printed, prints.result()["buckets"]))

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
        return Part(
            rows=scattered(self._rows),
            places=among(self._ids, seen),
            prints=scattered(self._prints) if self._prints else None,
            printed=among(self._printed, seen),
        )


def _read(dataset: LanceDataset, columns: list[str], condition: str | None = None) -> pa.Table:
    with derived.reading(dataset.uri):
        return dataset.to_table(columns=columns, filter=condition, scan_in_order=True, batch_size=BATCH)


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
        self._parts = [(chunk.flatten().to_numpy(), bounds_of(chunk)) for chunk in lists.chunks]
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
