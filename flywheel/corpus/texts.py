"""Texts: conversations in plain ChatML, rendered once and kept by content, for who brings a tokenizer of his own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.corpus.kept import Kept
from flywheel.corpus.order import Positions
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

    def batch(self, positions: Positions, *, packed: bool = False, trained: bool = True) -> dict[str, Any]:
        """`trajectory_id` and `text`, each a list; with `trained` off, they are empty."""
        if packed:
            raise FlywheelError("texts are not packed; give a tokenizer")
        if not trained:
            return {"trajectory_id": [], "text": []}
        return {
            "trajectory_id": self.keys["trajectory_id"].take(pa.array(positions)).to_pylist(),
            "text": [str(of[start:end], "utf-8") for of, start, end in self._places(positions)],
        }

    def _columns(self, batch: pa.RecordBatch) -> memoryview:
        return memoryview(batch.column("text").buffers()[2] or b"")


def rendered(rows: pa.Table) -> pa.Table:
    """Rows of `SEGMENT` for conversations (content_digest, steps, tools), in their order."""
    made: list[str] = []
    for row in rows.to_pylist():
        cut = spans(msgspec.convert(row["steps"], tuple[Step, ...]), row["tools"])
        made.append("".join(span.text for span in cut))
    sizes = [len(text.encode()) for text in made]
    return pa.table([rows["content_digest"], sizes, pa.array(made, pa.large_string())], schema=SEGMENT)
