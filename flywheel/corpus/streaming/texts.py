"""Texts: conversations in plain ChatML, rendered once and kept by content, for who brings a tokenizer of his own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.corpus.streaming import kept
from flywheel.corpus.streaming.kept import Kept
from flywheel.corpus.streaming.order import Order, Positions, ranked
from flywheel.schema import FlywheelError, Step
from flywheel.views.chatml import spans

# A change to `views.chatml` must change it.
RECIPE = "plain ChatML 2"

# A text begins at a multiple of so many bytes, from where Python copies and checks it in one pass.
ALIGNED = 8

# Windows of an order that are looked up at once.
AHEAD = 8

# `text` is followed by zeros up to the next multiple of `ALIGNED`; `n_bytes` are without them.
SEGMENT = pa.schema([("content_digest", pa.string()), ("n_bytes", pa.int64()), ("text", pa.large_string())])

# What is known of each text without reading it.
INDEX = pa.schema([field for field in SEGMENT if field.name != "text"])


Strings = np.ndarray[Any, np.dtype[np.object_]]
_NOTHING: tuple[Strings, Positions] = np.empty(0, object), np.empty(0, np.int64)

# A string of Arrow's columnar format's `string_view`, anywhere in any of several buffers. One of up to 12 bytes would
# stand in the view itself, but every turn of ChatML is longer.
_VIEW = np.dtype([("length", "<i4"), ("prefix", "<u4"), ("buffer", "<i4"), ("start", "<i4")])


def find(files: Sequence[Path], keys: pa.Table) -> pa.Table:
    """What segments hold of conversations (trajectory_id, content_digest), in order of trajectory_id; see `kept`."""
    return kept.find(files, keys, INDEX, "n_bytes", "content_digest", aligned=ALIGNED)


class Texts(Kept):
    """Conversations in order of trajectory_id. `found` is what `find` gives; `lengths` are bytes."""

    def __init__(self, name: str, files: Sequence[Path], found: pa.Table) -> None:
        super().__init__(name, files, found, "n_bytes", ["trajectory_id", "content_digest"])
        # The window that was read last: of which order, from where to where, its texts as they lie, and where in them
        # the order finds each.
        self._held: tuple[Order | None, int, int] = (None, 0, 0)
        self._texts, self._order = _NOTHING
        # Where those of the next windows lie.
        self._ahead: tuple[Order | None, dict[int, tuple[pa.Array, Positions]]] = (None, {})

    def batch(self, positions: Positions, *, packed: bool = False, trained: bool = True) -> dict[str, Any]:
        """`text`, a list; with `trained` off, it is empty."""
        if packed:
            raise FlywheelError("texts are not packed; give a tokenizer")
        if not trained:
            return {"text": []}
        lying, order = self._lying(positions)
        return {"text": lying.to_numpy(zero_copy_only=False)[order].tolist()}

    def between(self, order: Order, start: int, stop: int) -> dict[str, Any]:
        """The same of a stretch of an order. A window of it is read at once: strings are cheapest made together."""
        of, first, last = self._held
        if of is order and first <= start and stop <= last:
            return {"text": self._texts[self._order[start - first : stop - first]].tolist()}
        text: list[str] = []
        for window in order.over(start, stop):
            self._hold(order, window)
            first = self._held[1]
            text += self._texts[self._order[max(start - first, 0) : stop - first]].tolist()
        return {"text": text}

    def _lie(self, found: pa.Table) -> None:
        super()._lie(found)
        # The how-manieth of all each text lies.
        self._rank = np.empty(len(self), np.uint64)
        self._rank[np.lexsort((self._start, self._segment))] = np.arange(len(self))

    def _find(self, files: Sequence[Path], keys: pa.Table) -> pa.Table:
        return find(files, keys)

    def _hold(self, order: Order, window: int) -> None:
        first, last = order.starts[window : window + 2].tolist()
        if self._held != (order, first, last):
            # The last one goes first, so that the next takes its room: as it lies, which puts the room together again.
            self._held, (self._texts, self._order) = (None, 0, 0), _NOTHING
            lying, self._order = self._next(order, window)
            self._texts = lying.to_numpy(zero_copy_only=False)
            self._held = (order, first, last)

    def _next(self, order: Order, window: int) -> tuple[pa.Array, Positions]:
        """The texts of a window as `_lying`. Some windows are looked up at once, since it is beginning that costs."""
        of, ahead = self._ahead
        if of is not order or window not in ahead:
            windows = range(window, min(window + AHEAD, order.windows))
            ahead = {number: self._lying(order.in_window(number)) for number in windows}
            self._ahead = (order, ahead)
        return ahead.pop(window)

    def _lying(self, positions: Positions) -> tuple[pa.Array, Positions]:
        """Some texts as they lie, none of them read yet, and where in these each of `positions` is."""
        mapped = self._maps(positions)
        by = ranked(self._rank[positions])
        order = np.empty_like(by)
        order[by] = np.arange(len(by))
        positions = positions[by]
        segments, buffers = np.unique(self._segment[positions], return_inverse=True)
        views = np.zeros(len(by), _VIEW)
        views["length"], views["buffer"], views["start"] = self.lengths[positions], buffers, self._start[positions]
        read = [None, pa.py_buffer(views), *map(mapped.__getitem__, segments.tolist())]
        return pa.Array.from_buffers(pa.string_view(), len(by), read), order

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "_held": (None, 0, 0),
            "_texts": _NOTHING[0],
            "_order": _NOTHING[1],
            "_ahead": (None, {}),
        }

    def _columns(self, batch: pa.RecordBatch) -> pa.Buffer:
        return batch.column("text").buffers()[2]


def rendered(rows: pa.Table) -> pa.Table:
    """Rows of `SEGMENT` for conversations (content_digest, steps, tools), in their order."""
    made: list[bytes] = []
    for row in rows.to_pylist():
        cut = spans(msgspec.convert(row["steps"], tuple[Step, ...]), row["tools"])
        made.append("".join(span.text for span in cut).encode())
    return segment(rows["content_digest"], made)


def segment(digests: Any, encoded: Sequence[bytes]) -> pa.Table:
    """Rows of `SEGMENT` for texts in UTF-8."""
    filled = [text + bytes(-len(text) % ALIGNED) for text in encoded]
    sizes = [len(text) for text in encoded]
    return pa.table([digests, sizes, pa.array(filled, pa.large_binary()).cast(pa.large_string())], schema=SEGMENT)
