"""Near duplicates: which one stays."""

import pyarrow as pa

from flywheel.curate.dedupe import near_duplicates
from flywheel.curate.spec import NearDuplicates

TEXT = " ".join(f"word{i}" for i in range(100))


def episodes(*rows: tuple[str, int, str], task: str = "t") -> pa.Table:
    ids, ranks, texts = zip(*rows, strict=True)
    return pa.table({"trajectory_id": ids, "task_id": [task] * len(ids), "rank": ranks, "text": texts})


def dropped(table: pa.Table, **settings) -> dict[str, str]:
    found = near_duplicates(table, NearDuplicates(**settings))
    return dict(zip(found["trajectory_id"].to_pylist(), found["duplicate_of"].to_pylist(), strict=True))


def test_the_best_rank_stays_whatever_its_id():
    assert dropped(episodes(("a", 3, TEXT), ("b", 1, TEXT + " end"), ("c", 2, TEXT))) == {"a": "b", "c": "b"}


def test_a_chain_keeps_both_ends():
    """The middle is near to both ends, and they are not near to each other."""
    middle = TEXT.replace("word20", "x")
    end = middle.replace("word70", "y")
    assert dropped(episodes(("start", 1, TEXT), ("middle", 2, middle), ("end", 3, end))) == {"middle": "start"}


def test_only_within_a_task_if_asked():
    two = pa.concat_tables([episodes(("a", 1, TEXT)), episodes(("b", 2, TEXT), task="other")])
    assert dropped(two) == {"b": "a"}
    assert dropped(two, within="task") == {}
