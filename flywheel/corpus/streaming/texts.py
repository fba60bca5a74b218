"""Texts: conversations in plain ChatML, rendered once and kept by content, for who brings a tokenizer of his own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.corpus.streaming.kept import Kept
from flywheel.corpus.streaming.order import BLOCK, WINDOW, Positions
from flywheel.schema import FlywheelError, Step
from flywheel.views.chatml import spans

# A change to `views.chatml` must change it.
RECIPE = "plain ChatML 1"

SEGMENT = pa.schema([("content_digest", pa.string()), ("n_bytes", pa.int64()), ("text", pa.large_string())])

# What is known of each text without reading it.
INDEX = pa.schema([field for field in SEGMENT if field.name != "text"])


class Texts(Kept):
    """Conversations in order of trajectory_id. `found` is what `kept.find` gives of `INDEX`; `lengths` are bytes."""

    def __init__(self, name: str, files: Sequence[Path], found: pa.Table) -> None:
        super().__init__(name, files, found, "n_bytes", ["trajectory_id", "content_digest"])
        self._held: dict[int, list[str]] = {}

    def batch(self, positions: Positions, *, packed: bool = False, trained: bool = True) -> dict[str, Any]:
        """`text`, a list; with `trained` off, it is empty."""
        if packed:
            raise FlywheelError("texts are not packed; give a tokenizer")
        blocks, rows = np.divmod(positions, BLOCK)
        places = zip(blocks.tolist(), rows.tolist(), strict=True) if trained else ()
        held = self._held
        return {"text": [(held[block] if block in held else self._block(block))[row] for block, row in places]}

    def _block(self, block: int) -> list[str]:
        """The texts of a block of an order, which are wanted soon if one is; as many blocks are held as are mixed."""
        wanted = slice(block * BLOCK, (block + 1) * BLOCK)
        segment, starts = self._segment[wanted], self._start[wanted]
        ends = starts + self.lengths[wanted]
        if (segment == segment[0]).all() and (starts[1:] == ends[:-1]).all():
            # Neighbours in their segment, as most are: decoded together.
            edges = pa.py_buffer(np.append(starts, ends[-1:]))
            made = pa.LargeStringArray.from_buffers(len(starts), edges, self._read(int(segment[0]))).to_pylist()
        else:
            places = self._places(np.arange(wanted.start, min(wanted.stop, len(self))))
            made = [str(memoryview(of)[start:end], "utf-8") for of, start, end in places]
        if len(self._held) > WINDOW:
            del self._held[next(iter(self._held))]
        self._held[block] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_held": {}}

    def _columns(self, batch: pa.RecordBatch) -> pa.Buffer:
        return batch.column("text").buffers()[2]


def rendered(rows: pa.Table) -> pa.Table:
    """Rows of `SEGMENT` for conversations (content_digest, steps, tools), in their order."""
    made: list[str] = []
    for row in rows.to_pylist():
        cut = spans(msgspec.convert(row["steps"], tuple[Step, ...]), row["tools"])
        made.append("".join(span.text for span in cut))
    sizes = [len(text.encode()) for text in made]
    return pa.table([rows["content_digest"], sizes, pa.array(made, pa.large_string())], schema=SEGMENT)
