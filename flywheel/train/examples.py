"""Trajectories as token ids and labels: the loss sees what the assistant wrote, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.schema import FlywheelError, Step
from flywheel.views.messages import to_messages

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


def encode(tokenizer: Any, steps: Sequence[Step], tools: str) -> Example:
    """A whole conversation as one example, however long."""
    encoded = tokenizer.apply_chat_template(
        to_messages(steps), tools=json.loads(tools) or None, return_assistant_tokens_mask=True, return_dict=True
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    return Example(ids, [token if written else IGNORED for token, written in zip(ids, mask, strict=True)])


def windows(example: Example, context: int) -> list[Example]:
    """The example cut into pieces of at most `context` tokens that overlap by half, for the sake of what went before.

    Each label is trained in exactly one window; windows without any label are left out.
    """
    cut: list[Example] = []
    new = 0
    for start in range(0, max(1, len(example.input_ids) - context // 2), max(1, context // 2)):
        ids = example.input_ids[start : start + context]
        labels = [IGNORED] * (new - start) + example.labels[new : start + context]
        new = start + len(ids)
        if any(label != IGNORED for label in labels):
            cut.append(Example(ids, labels))
    return cut


def examples(tokenizer: Any, rows: pa.Table, context: int) -> list[Example]:
    """All rows as training examples, in the order of the rows.

    Raises:
        FlywheelError: when no assistant wrote anything in them.
    """
    made = [
        window for steps, tools in conversations(rows) for window in windows(encode(tokenizer, steps, tools), context)
    ]
    if not made:
        raise FlywheelError(f"nothing to train on: none of the {rows.num_rows} rows holds an assistant's step")
    return made
