"""Fingerprints: the text of a trajectory, its runs of words as numbers, and the buckets that near texts share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import minhash, words
from flywheel.curate.derived import Derivation
from flywheel.curate.spec import NearDuplicates

# The words of a text: lower case, without punctuation; numbers and ids are words too.
WORDS = r"regexp_extract_all(lower({text}), '[\p{{L}}\p{{M}}\p{{N}}_]+')"

# What was asked first, and all that was said and done. System messages stay out: every episode of an agent
# shares them, and they would make all of its episodes alike.
PROMPT = "coalesce(list_filter(steps, lambda s: s.role = 'user')[1].content, '')"
EPISODE = """
array_to_string(list_transform(list_filter(steps, lambda s: s.role <> 'system'), lambda s: concat_ws(' ',
    nullif(s.reasoning, ''), nullif(s.content, ''), nullif(array_to_string(list_transform(
        s.tool_calls, lambda c: concat_ws(' ', c.name, c.arguments)), ' '), ''))), ' ')
"""

FINGERPRINTS = pa.schema([("buckets", pa.list_(pa.int64())), ("n_runs", pa.int32())])

TEXTS = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("text", pa.string())])


def derivation(near: NearDuplicates) -> Derivation:
    """The derived table of fingerprints (`FINGERPRINTS`) that some settings need; the threshold has no part in it.

    `buckets` has a number for each band of the MinHash signature (none where a text has no words): texts that share
    one are compared. `n_runs` counts the distinct runs of words. The text is that of `words.episode_words`.
    """
    bands, rows = near.signature

    def compute(captured: pa.Table) -> pa.Table:
        return minhash.fingerprints(words.episode_words(captured["steps"]), near).cast(FINGERPRINTS)

    return Derivation(
        name="fingerprints",
        recipe=f"fingerprints 1: episodes in runs of {near.shingle} words, {bands} bands of {rows}, seed {near.seed}",
        columns=("steps",),
        schema=FINGERPRINTS,
        compute=compute,
    )


def runs(steps: pa.Array | pa.ChunkedArray, near: NearDuplicates) -> pa.ListArray:
    """The distinct runs of words of each trajectory (list<uint64>, ascending), for an exact comparison."""
    hashes, bounds = minhash.runs(words.episode_words(steps), near.shingle)
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(hashes))


def texts(trajectories: pa.Table) -> pa.Table:
    """The `prompt` and the whole `text` of each trajectory (a table with `id` and `steps`), ordered by id."""
    with warehouse.connect() as connection:
        connection.register("trajectories", trajectories.select(["id", "steps"]))
        found = connection.sql(f"SELECT id, {PROMPT} AS prompt, {EPISODE} AS text FROM trajectories ORDER BY id")
        return found.to_arrow_table().cast(TEXTS)


def similar(left: pa.Table, right: pa.Table | None, settings: NearDuplicates) -> pa.Table:
    """Pairs of texts whose Jaccard similarity over runs of words reaches the threshold.

    Takes tables of `key` (unique in its table), `scope` (only texts of one scope are compared) and `text`; gives
    `left`, `right` (keys) and `similarity`, ordered by the keys. With `right` None the pairs are among `left`,
    each once with the lesser key first. A text without words is like nothing.
    """
    with warehouse.connect() as connection:
        sides = [left.select(["key", "scope", "text"]).append_column("side", pa.array([0] * len(left), pa.int8()))]
        if right is not None:
            ones = pa.array([1] * len(right), pa.int8())
            sides.append(right.select(["key", "scope", "text"]).append_column("side", ones))
        connection.register("given", pa.concat_tables(sides))
        connection.sql(
            f"""
            CREATE TABLE documents AS
            WITH words AS (
                SELECT key, scope, side, {WORDS.format(text="text")} AS words FROM given
            )
            SELECT row_number() OVER (ORDER BY side, key) - 1 AS item, key, scope, side,
                {_runs(settings.shingle)} AS runs
            FROM words WHERE len(words) > 0
            """
        )
        runs = connection.sql("SELECT runs FROM documents ORDER BY item").to_arrow_table()["runs"].combine_chunks()
        connection.register("buckets", _buckets(runs, settings))
        across = "a.side < b.side" if right is not None else "a.key < b.key"
        # A table of its own: joined in one statement, the planner may begin with every pair of a scope.
        connection.sql(
            f"""
            CREATE TABLE candidates AS
            WITH placed AS (SELECT * FROM buckets JOIN (SELECT item, key, scope, side FROM documents) USING (item))
            SELECT DISTINCT a.item AS a, b.item AS b
            FROM placed AS a JOIN placed AS b ON a.band = b.band AND a.bucket = b.bucket AND a.scope = b.scope
            WHERE {across}
            """
        )
        return connection.sql(
            f"""
            WITH measured AS (
                SELECT a.key AS "left", b.key AS "right", len(list_intersect(a.runs, b.runs)) AS shared,
                    shared / (len(a.runs) + len(b.runs) - shared) AS similarity
                FROM candidates AS c JOIN documents AS a ON a.item = c.a JOIN documents AS b ON b.item = c.b
            )
            SELECT "left", "right", similarity FROM measured WHERE similarity >= {settings.threshold!r}
            ORDER BY "left", "right"
            """
        ).to_arrow_table()


def _runs(size: int) -> str:
    """The distinct runs of so many words in the list `words`, as numbers; a shorter text is one run.

    The list is zipped with itself, each time from a word further on. To cut the runs out of it inside a lambda would
    copy the whole list for each of them: gigabytes for a long log.
    """
    starts = ", ".join(f"words[{start}:]" for start in range(1, size + 1))
    parts = ", ".join(f"run[{part}]" for part in range(1, size + 1))
    return (
        f"list_distinct(CASE WHEN len(words) < {size} THEN [md5_number_lower(array_to_string(words, ' '))] "
        f"ELSE list_transform(list_zip({starts}, true), lambda run: md5_number_lower(concat_ws(' ', {parts}))) END)"
    )


def _buckets(runs: Any, settings: NearDuplicates) -> pa.Table:
    """The LSH bucket of each document (`item`, its place in `runs`) in each band of its MinHash signature."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs

    if len(runs) == 0:
        return pa.table(
            {"item": pa.array([], pa.int64()), "band": pa.array([], pa.int64()), "bucket": pa.array([], pa.int64())}
        )
    count, rows = settings.signature
    signatures = RMinHash.digest_matrix_from_flat_token_hashes(
        runs.flatten().to_numpy(), np.asarray(runs.offsets), count * rows, settings.seed
    )
    bands = np.asarray(signatures.to_rows(), dtype=np.uint32).reshape(len(runs), count, rows)
    buckets = [np.unique(bands[:, i], axis=0, return_inverse=True)[1].reshape(-1) for i in range(count)]
    return pa.table(
        {
            "item": np.tile(np.arange(len(runs)), count),
            "band": np.repeat(np.arange(count), len(runs)),
            "bucket": np.concatenate(buckets),
        }
    )
