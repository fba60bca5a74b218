"""Streaming: what a version, a branch or a part of one holds, shuffled: as rows, as texts, or as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.corpus import selection, store
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.corpus.streaming import kept, renderings, segments, sequences, texts
from flywheel.corpus.streaming.order import BLOCK, WINDOW, Order
from flywheel.corpus.streaming.renderings import Rendering
from flywheel.corpus.streaming.sequences import Sequences, TrainOn
from flywheel.corpus.streaming.texts import Texts
from flywheel.curate import derived, prepared
from flywheel.schema import FlywheelError, Step
from flywheel.settings import Home

Progress = Callable[[int, int], None]


class Tokenised(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows of a selection: `rows` = those with windows + those that were `dropped`, by reason.

    `left_out` counts assistant steps, of rows that were kept, that fit in no window. `cached` rows had been
    tokenised before.
    """

    rows: int
    cached: int
    windows: int
    tokens: int
    trained_tokens: int
    left_out: int
    dropped: dict[str, int]


def stream(
    home: Home,
    name: str,
    version: int | str | None = None,
    *,
    split: str = "train",
    where: str | None = None,
    columns: Sequence[str] | None = None,
    seed: int | None = 0,
    epoch: int = 0,
    worker: int = 0,
    workers: int = 1,
    block: int = BLOCK,
    window: int = WINDOW,
) -> Iterator[dict[str, Any]]:
    """The rows of one split as dicts of the columns of `store.ROWS`, each once.

    `where` is a SQL condition on `filter.COLUMNS`. The order follows from seed and epoch alone (see `Order`); a seed
    of None keeps the order of ids. Of several `workers` (processes that share an epoch) each takes every so many-th
    row, so together they give each once. At most `block * window` rows are held.

    Raises:
        FlywheelError: when the version is unknown or its data cannot be opened.
    """
    if not 0 <= worker < workers or min(block, window) < 1:
        raise FlywheelError(
            f"worker {worker} of {workers} with blocks of {block} and windows of {window}: count workers from 0, "
            "and take at least one row and one block"
        )
    of = manifest(home, name, version)
    return _rows(home, of, split, where, columns, Order(0, seed, epoch, block=block, window=window), worker, workers)


def _rows(
    home: Home,
    of: Manifest,
    split: str,
    where: str | None,
    columns: Sequence[str] | None,
    order: Order,
    worker: int,
    workers: int,
) -> Iterator[dict[str, Any]]:
    keys = selection.selected(home, of, split, where)
    order = Order(keys.num_rows, order.seed, order.epoch, block=order.block, window=order.window)
    mine = order.between(0, keys.num_rows)[worker::workers]
    size = max(order.block * order.window // workers, 1)
    for table in store.of_keys(home, of, keys.take(pa.array(mine)), columns, size):
        # Nested columns become objects, which take far more room than the table: a few at a time.
        for batch in table.to_batches(max_chunksize=64):
            yield from batch.to_pylist()


def tokens_of(
    home: Home,
    of: Manifest,
    tokenizer: Any,
    max_tokens: int,
    *,
    split: str | None = "train",
    where: str | None = None,
    train_on: TrainOn = "assistant",
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[Sequences, Tokenised]:
    """The rows of a version as windows of at most `max_tokens` tokens, and what became of each row.

    A conversation is tokenised when it is first asked for, with this tokenizer, template and length, and never
    again, whatever version or corpus holds it: `processes` share that work, and `progress` is told the rows done and
    all rows to do. What the template refuses is in `Tokenised.dropped`, and in `dropped` rows of the segments.

    Raises:
        FlywheelError: when the split is unknown, the condition cannot be read, or content is missing.
    """
    rendering = renderings.of_tokens(tokenizer, max_tokens)
    keys, folder, made = _brought(home, of, rendering, split, where, processes, progress)
    files, found = segments.steadily(folder, lambda files: sequences.find(files, keys))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    held = Sequences(
        _name(of, folder, split, where), files, found, train_on=train_on, pad_token=0 if pad is None else pad
    )
    return held, _told(keys.num_rows, made, found, held)


def texts_of(
    home: Home,
    of: Manifest,
    *,
    split: str | None = "train",
    where: str | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Texts:
    """The rows of a version as plain ChatML texts, each rendered once for all versions (see `tokens_of`)."""
    keys, folder, _ = _brought(home, of, renderings.TEXTS, split, where, processes, progress)
    files, found = segments.steadily(folder, lambda files: texts.find(files, keys))
    return Texts(_name(of, folder, split, where), files, found)


def _brought(
    home: Home,
    of: Manifest,
    rendering: Rendering,
    split: str | None,
    where: str | None,
    processes: int,
    progress: Progress | None,
) -> tuple[pa.Table, Path, int]:
    """What is selected, where its renderings lie, and how many were made now."""
    keys = selection.selected(home, of, split, where)
    workspace = of.recipe["workspace"]

    def conversations(todo: pa.Table) -> Iterator[pa.Table]:
        rows = derived.opened(home, workspace, prepared.ROWS)
        named = todo.select(kept.KEYS.names).rename_columns({"trajectory_id": "id"})
        yield from prepared.batches(rows, named, ["content_digest", "steps", "tools"], size=renderings.BATCH)

    folder = rendering.folder(home, workspace)
    made = renderings.bring(folder, rendering, keys, conversations, processes=processes, progress=progress)
    return keys, folder, made


def _name(of: Manifest, folder: Path, split: str | None, where: str | None) -> str:
    """The digest of a version names its content, so a rebuilt one is the same stream."""
    return f"{of.name} {of.digest[:16]} {split or 'all'} {where or ''} as {folder.name}"


def _told(rows: int, made: int, found: pa.Table, held: Sequences) -> Tokenised:
    reasons = found["dropped"].drop_null().value_counts().to_pylist()
    return Tokenised(
        rows=rows,
        cached=rows - made,
        windows=len(held),
        tokens=int(held.lengths.sum()),
        trained_tokens=int(held.trained.sum()),
        left_out=int(np.asarray(found["left_out"].filter(found["dropped"].is_null())).sum()),
        dropped={row["values"]: row["counts"] for row in sorted(reasons, key=lambda row: row["values"])},
    )


def steps_of(row: dict[str, Any]) -> tuple[Step, ...]:
    """The steps of a row as records."""
    return msgspec.convert(row["steps"], tuple[Step, ...])
