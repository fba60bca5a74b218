"""Fingerprints: the buckets that near texts share, as a derived table, and the runs of words they are made of."""

from __future__ import annotations

import pyarrow as pa

from flywheel.curate import minhash, words
from flywheel.curate.derivation import Derivation
from flywheel.curate.spec import NearDuplicates

# What was asked first, and all that was said and done. System messages stay out: every episode of an agent
# shares them, and they would make all of its episodes alike.
PROMPT = "coalesce(list_filter(steps, lambda s: s.role = 'user')[1].content, '')"
EPISODE = """
array_to_string(list_transform(list_filter(steps, lambda s: s.role <> 'system'), lambda s: concat_ws(' ',
    nullif(s.reasoning, ''), nullif(s.content, ''), nullif(array_to_string(list_transform(
        s.tool_calls, lambda c: concat_ws(' ', c.name, c.arguments)), ' '), ''))), ' ')
"""

FINGERPRINTS = pa.schema([("buckets", pa.list_(pa.int64())), ("n_runs", pa.int32())])


def derivation(near: NearDuplicates) -> Derivation:
    """The derived table of fingerprints (`FINGERPRINTS`) that some settings need: one for all of the same signature.

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
