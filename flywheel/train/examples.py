"""Trajectories as token ids and labels: the loss sees what the assistant wrote, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flywheel.schema import FlywheelError, Step
from flywheel.settings import Home
from flywheel.views.window import windows

if TYPE_CHECKING:
    from flywheel.corpus.manifest import Manifest

log = logging.getLogger(__name__)

# The label that a loss ignores, by the convention of torch.
IGNORED = -100


class Example(msgspec.Struct, frozen=True):
    """One sequence to train on; a label is the token itself where the assistant wrote it, else `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


def kept(home: Home, of: Manifest, tokenizer: Any, context: int) -> Any:
    """A version's examples as a dataset of `input_ids` and `labels`, in order of ids, for TRL's trainers.

    A conversation is tokenised once for a tokenizer, whatever versions hold it, and read from where that is kept. They
    are the `examples` of the version's rows, but that a row that the template refuses is left out, not an error.

    Raises:
        FlywheelError: when there is nothing to train on.
    """
    from flywheel.corpus.streaming.examples import CorpusExamples
    from flywheel.corpus.streaming.stream import tokens_of

    held, told = tokens_of(home, of, tokenizer, context)
    for reason, count in told.dropped.items():
        log.warning("%d of %d rows are left out: %s", count, told.rows, reason)
    _tell_left_out(told.left_out, context)
    if not len(held):
        raise _nothing(told.rows, context)
    return CorpusExamples(held, seed=None)


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
    _tell_left_out(left_out, context)
    if not made:
        raise _nothing(rows.num_rows, context)
    return made


def _tell_left_out(steps: int, context: int) -> None:
    if steps:
        log.warning("%d steps of assistants are longer than the context of %d tokens: left out", steps, context)


def _nothing(rows: int, context: int) -> FlywheelError:
    return FlywheelError(f"nothing to train on: the {rows} rows hold no assistant's step within {context} tokens")
