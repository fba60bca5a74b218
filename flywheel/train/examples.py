"""Trajectories as token ids and labels: the loss sees what the assistant wrote, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.schema import FlywheelError, Step
from flywheel.views.window import windows

log = logging.getLogger(__name__)

# The label that a loss ignores, by the convention of torch.
IGNORED = -100


class Example(msgspec.Struct, frozen=True):
    """One sequence to train on; a label is the token itself where the assistant wrote it, else `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


def conversations(rows: pa.Table) -> Iterator[tuple[tuple[Step, ...], str]]:
    """The steps and the tools (JSON text) of each row of a table with columns `steps` and `tools`, batch by batch."""
    for batch in rows.select(["steps", "tools"]).to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            yield msgspec.convert(row["steps"], tuple[Step, ...]), row["tools"]


def examples(tokenizer: Any, rows: pa.Table, context: int) -> list[Example]:
    """All rows as training examples of at most `context` tokens, in the order of the rows.

    A longer trajectory becomes several windows, each step of the assistant trained in exactly one. Steps that do not
    fit even alone behind the opening of their task are left out, and counted in the log.

    Raises:
        FlywheelError: when there is nothing to train on.
    """
    made: list[Example] = []
    left_out = 0
    for steps, tools in conversations(rows):
        cut = windows(tokenizer, steps, tools, context)
        left_out += len(cut.left_out)
        for window in cut.windows:
            ids, mask = window.rendered.input_ids, window.rendered.assistant_mask
            labels = [token if written else IGNORED for token, written in zip(ids, mask, strict=True)]
            made.append(Example(ids, labels))
    if left_out:
        log.warning("%d steps of assistants are longer than the context of %d tokens: left out", left_out, context)
    if not made:
        raise FlywheelError(
            f"nothing to train on: the {rows.num_rows} rows hold no assistant's step within {context} tokens"
        )
    return made
