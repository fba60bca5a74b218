"""Streaming: rows of a version in a shuffled order, read from Lance block by block and never all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.corpus import selection, store
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.schema import FlywheelError, Step
from flywheel.settings import Home
from flywheel.views.window import windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows that are read at once, and blocks that are mixed: at most BLOCK * WINDOW rows are held.
BLOCK = 256
WINDOW = 8


class RenderedRow(msgspec.Struct, frozen=True):
    """A row, or a window of one, as token ids, with 1 in the mask for each token that the assistant wrote."""

    trajectory_id: str
    input_ids: list[int]
    assistant_mask: list[int]
    reward: float | None


def stream(
    home: Home,
    name: str,
    version: int | str | None = None,
    *,
    split: str = "train",
    columns: Sequence[str] | None = None,
    seed: int | None = 0,
    epoch: int = 0,
    worker: int = 0,
    workers: int = 1,
    block: int = BLOCK,
    window: int = WINDOW,
) -> Iterator[dict[str, Any]]:
    """The rows of one split as dicts of the columns of `store.ROWS`, each once.

    Blocks of `block` neighbouring rows come in a shuffled order; the rows of `window` blocks are mixed. The order
    follows from seed, epoch and the number of workers alone; a seed of None keeps the order of ids. Of several
    `workers` (processes that share an epoch) each reads its own blocks, so together they give each row once.

    Raises:
        FlywheelError: when the version is unknown or its data cannot be opened.
    """
    if not 0 <= worker < workers or min(block, window) < 1:
        raise FlywheelError(
            f"worker {worker} of {workers} with blocks of {block} and windows of {window}: count workers from 0, "
            "and take at least one row and one block"
        )
    return _rows(manifest(home, name, version), home, split, columns, (seed, epoch), (worker, workers), block, window)


def _rows(
    of: Manifest,
    home: Home,
    split: str,
    columns: Sequence[str] | None,
    order: tuple[int | None, int],
    share: tuple[int, int],
    block: int,
    window: int,
) -> Iterator[dict[str, Any]]:
    if split not in selection.SPLITS:
        raise FlywheelError(f"there is no split {split!r}; it is train or heldout")
    keys = selection.selected(home, of, split)
    positions = np.arange(keys.num_rows)
    blocks = [positions[start : start + block] for start in range(0, len(positions), block)]
    seed, epoch = order
    # The order of blocks is common to all workers; each mixes rows with a chance of its own.
    chance = None if seed is None else np.random.default_rng([seed, epoch])
    if chance is not None:
        blocks = [blocks[i] for i in chance.permutation(len(blocks))]
    mine = blocks[share[0] :: share[1]]
    mix = None if seed is None else np.random.default_rng([seed, epoch, *share])
    for start in range(0, len(mine), window):
        held: list[dict[str, Any]] = []
        for rows in mine[start : start + window]:
            for table in store.of_keys(home, of, keys.take(pa.array(rows)), columns):
                held += table.to_pylist()
        for index in range(len(held)) if mix is None else mix.permutation(len(held)):
            yield held[index]


def rendered(
    rows: Iterator[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Iterator[RenderedRow]:
    """Each row in the tokenizer's own chat template: whole where it fits `max_tokens`, else in windows.

    A turn that fits in no window is left out (see `views.window`).

    Raises:
        FlywheelError: when the template refuses a conversation or leaves out what the assistant said.
    """
    for row in rows:
        for part in windows(tokenizer, steps_of(row), row["tools"], max_tokens).windows:
            yield RenderedRow(row["id"], part.rendered.input_ids, part.rendered.assistant_mask, row["reward"])


def steps_of(row: dict[str, Any]) -> tuple[Step, ...]:
    """The steps of a row as records."""
    return msgspec.convert(row["steps"], tuple[Step, ...])
