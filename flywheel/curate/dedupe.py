"""Near duplicates: of episodes that say nearly the same, the one that ranks best is kept."""

from __future__ import annotations

import pyarrow as pa

from flywheel.curate.fingerprint import similar
from flywheel.curate.spec import NearDuplicates

DUPLICATES = pa.schema([("trajectory_id", pa.string()), ("duplicate_of", pa.string())])


def near_duplicates(episodes: pa.Table, settings: NearDuplicates) -> pa.Table:
    """The episodes to drop, each with the kept one that it repeats (the best, where there are several).

    Takes columns trajectory_id, task_id, rank (distinct; the least is best) and text. In the order of ranks an
    episode is kept unless it is near to one that is kept already. So whatever is dropped is near to what
    stands in its place, and a chain of small differences never swallows both of its ends.
    """
    scope = episodes["task_id"] if settings.within == "task" else pa.array([""] * len(episodes), pa.string())
    documents = pa.table({"key": episodes["trajectory_id"], "scope": scope, "text": episodes["text"]})
    ranks = dict(zip(episodes["trajectory_id"].to_pylist(), episodes["rank"].to_pylist(), strict=True))
    found = similar(documents, None, settings)
    pairs = [
        sorted(pair, key=ranks.__getitem__)
        for pair in zip(found["left"].to_pylist(), found["right"].to_pylist(), strict=True)
    ]
    original: dict[str, str] = {}
    for better, worse in sorted(pairs, key=lambda pair: (ranks[pair[1]], ranks[pair[0]])):
        if worse not in original and better not in original:
            original[worse] = better
    rows = sorted(original.items())
    return pa.table([[row[0] for row in rows], [row[1] for row in rows]], schema=DUPLICATES)
