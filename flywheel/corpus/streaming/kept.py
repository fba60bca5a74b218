"""What is kept of the conversations of a selection: one canonical order of it, read where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus.streaming import segments
from flywheel.corpus.streaming.order import Order, Positions

# What a selection is known by.
KEYS = pa.schema([("trajectory_id", pa.string()), ("content_digest", pa.string())])


class Kept(ABC):
    """Items in order of trajectory_id: sequences of tokens, or texts. `found` is what `find` gives of them.

    `lengths` say how long each is, `keys` what it is. `name` says what they are together: equal names, equal items.
    Files are mapped when they are first read, so it can be sent to other processes, or be inherited, at any time; those
    that have been merged by then are found anew.
    """

    def __init__(self, name: str, files: Sequence[Path], found: pa.Table, length: str, keys: Sequence[str]) -> None:
        self.name, self.files = name, list(files)
        self.keys = found.select(list(keys)).combine_chunks()
        self.lengths: Positions = found[length].to_numpy().astype(np.int64)
        self._lie(found)

    def _lie(self, found: pa.Table) -> None:
        self._segment: np.ndarray[Any, np.dtype[np.int32]] = found["segment"].to_numpy()
        self._start: Positions = found["start"].to_numpy()
        self._mapped: dict[int, Any] = {}

    @abstractmethod
    def _find(self, files: Sequence[Path], keys: pa.Table) -> pa.Table:
        """What segments hold of conversations: the rows that all this is made of."""

    @abstractmethod
    def batch(self, positions: Positions, *, packed: bool = False, trained: bool = True) -> dict[str, Any]:
        """Some items as one batch; with `trained` off, one that nothing is learned from."""

    def between(self, order: Order, start: int, stop: int) -> dict[str, Any]:
        """The items from one place in an order up to another, as one batch."""
        return self.batch(order.between(start, stop))

    @abstractmethod
    def _columns(self, batch: pa.RecordBatch) -> Any:
        """What is read of a segment."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}

    def _places(self, positions: Positions) -> list[tuple[Any, int, int]]:
        """For each item what is read of its segment, and where it begins and ends there."""
        mapped = self._maps(positions)
        starts = self._start[positions]
        ends = starts + self.lengths[positions]
        places = zip(self._segment[positions].tolist(), starts.tolist(), ends.tolist(), strict=True)
        return [(mapped[segment], start, end) for segment, start, end in places]

    def _maps(self, positions: Positions) -> dict[int, Any]:
        """What is read of each segment, with those that some items lie in, mapped when they are first wanted."""
        for attempt in range(segments.ATTEMPTS):
            try:
                for segment in set(self._segment[positions].tolist()) - self._mapped.keys():
                    self._mapped[segment] = self._columns(segments.opened(self.files[segment]))
                break
            except segments.Removed:
                if attempt == segments.ATTEMPTS - 1 or not self._moved():
                    raise
        return self._mapped

    def _moved(self) -> bool:
        """Find anew where everything lies, of which something has been merged; False if some of it has been erased."""
        keys = self.keys.select(KEYS.names).group_by(KEYS.names).aggregate([])
        files, found = segments.steadily(self.files[0].parent, lambda files: self._find(files, keys))
        if not found.select(self.keys.column_names).equals(self.keys):
            return False
        self.files = files
        self._lie(found)
        return True


def find(
    files: Sequence[Path], keys: pa.Table, index: pa.Schema, size: str, order: str, *, aligned: int = 1
) -> pa.Table:
    """What segments hold of conversations: rows of `index` with trajectory_id, segment, and start.

    `size` is the column that says how much of the values of its segment a row takes, but for what fills it up to a
    multiple of `aligned`; `start` is where that begins. Ordered by trajectory_id and `order`.
    """
    held = segments.index(files, index)
    segment = held["segment"].to_numpy()
    sizes = -(-held[size].to_numpy().astype(np.int64) // aligned) * aligned
    begins = np.cumsum(sizes) - sizes
    starts = begins - np.append(begins, 0)[np.searchsorted(segment, np.arange(len(files)))][segment]
    with warehouse.connect() as connection:
        connection.register("keys", keys.select(KEYS.names))
        connection.register("held", held.append_column("start", pa.array(starts)))
        return connection.sql(
            f"""
            SELECT trajectory_id, held.* EXCLUDE (row) FROM keys JOIN held USING (content_digest)
            ORDER BY trajectory_id, "{order}"
            """
        ).to_arrow_table()
