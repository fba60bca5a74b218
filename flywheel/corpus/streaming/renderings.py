"""Renderings: what is made of conversations once, for all versions, branches and corpora that hold them."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.corpus.streaming import segments, texts, tokens
from flywheel.settings import Home

# Conversations that are rendered at a time.
BATCH = 64

# Bytes of one segment: a kill loses at most the work on one, and a large corpus is not cut into too many.
SEGMENT_BYTES = 32 << 20


class Rendering(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a conversation. `compute` is given content_digest, steps and tools and answers with `schema`.

    It gives at least one row for each conversation, whatever becomes of it, and bears its content_digest. `recipe`
    changes whenever equal conversations would become something else.
    """

    name: str
    recipe: str
    schema: pa.Schema
    compute: Callable[[pa.Table], pa.Table]

    def folder(self, home: Home, workspace: str) -> Path:
        """Where the segments of a workspace lie: a new recipe is a new folder."""
        return home.mapped / workspace / f"{self.name}-{hashlib.sha256(self.recipe.encode()).hexdigest()[:12]}"


def of_tokens(tokenizer: Any, max_tokens: int) -> Rendering:
    """Windows of at most `max_tokens` tokens, in the tokenizer's chat template."""
    return Rendering(
        name="tokens",
        recipe=tokens.recipe(tokenizer, max_tokens),
        schema=tokens.SEGMENT,
        compute=partial(tokens.tokenised, tokenizer, max_tokens),
    )


# Whole conversations as text.
TEXTS = Rendering(name="texts", recipe=texts.RECIPE, schema=texts.SEGMENT, compute=texts.rendered)


def missing(folder: Path, keys: pa.Table) -> pa.Table:
    """The rows of `keys` whose `content_digest` is in no segment, one each, in their order."""
    schema = pa.schema([("content_digest", pa.string())])
    _, present = segments.steadily(folder, lambda files: segments.index(files, schema))
    with warehouse.connect() as connection:
        connection.register("keys", keys.append_column("number", pa.array(range(keys.num_rows))))
        connection.register("present", present)
        numbers = connection.sql(
            """
            SELECT min(number) AS number FROM keys ANTI JOIN present USING (content_digest)
            GROUP BY content_digest ORDER BY number
            """
        ).to_arrow_table()["number"]
    return keys.take(numbers)


def bring(
    folder: Path,
    rendering: Rendering,
    keys: pa.Table,
    conversations: Callable[[pa.Table], Iterable[pa.Table]],
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Render the conversations of `keys` that are in no segment yet; how many those were.

    `conversations` reads rows (content_digest, steps, tools) of some of the keys, a few at a time. A killed run goes
    on behind the last segment that it wrote, and two at once take turns. Small segments are merged where there are
    many. `progress` is told the rows done and all rows to do.
    """
    if not missing(folder, keys).num_rows:
        return 0
    with segments.locked(folder):
        todo = missing(folder, keys)
        if not (folder / "recipe.json").exists():
            artifacts.write_bytes(folder / "recipe.json", rendering.recipe.encode())
        held: list[pa.Table] = []
        done = 0
        for rows, made in _computed(rendering, conversations(todo), processes):
            held.append(made)
            done += rows
            if sum(table.nbytes for table in held) >= SEGMENT_BYTES:
                segments.write(folder, pa.concat_tables(held))
                held = []
            if progress:
                progress(done, todo.num_rows)
        if held:
            segments.write(folder, pa.concat_tables(held))
        segments.merge(folder)
    return todo.num_rows


def _computed(rendering: Rendering, tables: Iterable[pa.Table], processes: int) -> Iterator[tuple[int, pa.Table]]:
    """What becomes of each table, in their order, with how many rows it had; computed in processes of their own."""
    if processes <= 1:
        for table in tables:
            yield table.num_rows, rendering.compute(table)
        return
    # The process has threads (of Lance, for one), which a fork would cut off.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _prepare, (rendering.compute,)) as pool:
        running: deque[tuple[int, Future[pa.Table]]] = deque()
        for table in tables:
            running.append((table.num_rows, pool.submit(_compute, table)))
            if len(running) > 2 * processes:
                rows, made = running.popleft()
                yield rows, made.result()
        for rows, made in running:
            yield rows, made.result()


# Set in each process of a pool, so that a tokenizer is sent once.
_worker: dict[str, Callable[[pa.Table], pa.Table]] = {}


def _prepare(compute: Callable[[pa.Table], pa.Table]) -> None:
    _worker["compute"] = compute


def _compute(table: pa.Table) -> pa.Table:
    return _worker["compute"](table)
