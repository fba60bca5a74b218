"""All kinds of duplicates together: which row stays, and for which the others go."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate import minhash
from flywheel.curate.dedupe import duplicates
from flywheel.curate.spec import NearDuplicates, Spec
from flywheel.curate.words import text_words

TEXT = " ".join(f"word{i}" for i in range(100))
SPEC = Spec(workspace="w", near_duplicates=NearDuplicates(threshold=0.8))


def row(id: str, rank: int, text: str, **other) -> dict:
    """A candidate; unless it is said otherwise it is like no other in anything but its text."""
    plain = {
        "content_digest": f"digest of {id}",
        "task_id": "t",
        "effects": None,
        "chain": [-2 * rank - 1, -2 * rank - 2],
    }
    return {"trajectory_id": id, "rank": rank, "text": text} | plain | other


def found(*rows: dict, spec: Spec = SPEC) -> list[tuple]:
    return [tuple(found.values()) for found in table_of(*rows, spec=spec).to_pylist()]


def table_of(*rows: dict, spec: Spec = SPEC) -> pa.Table:
    near = spec.near_duplicates or NearDuplicates()
    schema = {name: pa.string() for name in ("trajectory_id", "content_digest", "task_id", "effects", "text")} | {
        "rank": pa.int64(),
        "chain": pa.list_(pa.int64()),
    }
    table = pa.Table.from_pylist(list(rows), pa.schema(schema))
    prints = minhash.fingerprints(text_words(table["text"]), near)
    texts = {(row["trajectory_id"], row["content_digest"]): row["text"] for row in rows}

    def runs(keys: pa.Table) -> pa.Array:
        words = text_words(pa.array([texts[tuple(key.values())] for key in keys.to_pylist()]))
        hashes, bounds = minhash.runs(words, near.shingle)
        return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(hashes))

    for name in prints.column_names:
        table = table.append_column(name, prints[name])
    return duplicates(table, runs, spec)


def test_the_best_of_equal_content_stays():
    rows = [row("a", 2, "x", content_digest="1"), row("b", 1, "y", content_digest="1"), row("c", 3, "z")]
    assert found(*rows) == [("a", "exact duplicate", "b", None)]


def test_the_best_record_of_a_session_stays():
    rows = [row("a", 1, "x", chain=[1, 2, 3]), row("b", 2, "y", chain=[1, 2]), row("c", 3, "z", chain=[1, 2, 3, 4])]
    assert found(*rows) == [("b", "prefix duplicate", "a", None), ("c", "prefix duplicate", "a", None)]
    assert found(*rows, spec=Spec(workspace="w", prefix_duplicates=False)) == []


def test_the_same_effects_count_within_a_task():
    rows = [
        row("a", 2, "x", effects="paid"),
        row("b", 1, "y", effects="paid"),
        row("c", 3, "z", effects="paid", task_id="other"),
        row("d", 4, "v", effects="asked"),
        row("e", 5, "w"),
        row("f", 6, "u"),
    ]
    assert found(*rows) == [("a", "same effects", "b", None)]
    assert found(*rows, spec=Spec(workspace="w", same_effects=False)) == []


def test_near_texts_and_how_near():
    rows = [row("a", 2, TEXT), row("b", 1, TEXT.replace("word50", "other")), row("c", 3, "something else")]
    assert found(*rows) == [("a", "near duplicate", "b", pytest.approx(91 / 101))]
    assert found(*rows, spec=Spec(workspace="w", near_duplicates=None)) == []


def test_a_chain_keeps_both_ends():
    """The middle is near to both ends, and they are not near to each other."""
    middle = TEXT.replace("word20", "x")
    end = middle.replace("word70", "y")
    spec = Spec(workspace="w")
    rows = [row("start", 1, TEXT), row("middle", 2, middle), row("end", 3, end)]
    assert [found[0:3] for found in found(*rows, spec=spec)] == [("middle", "near duplicate", "start")]


def test_near_within_a_task_if_asked():
    rows = [row("a", 1, TEXT), row("b", 2, TEXT, task_id="other"), row("c", 3, TEXT, task_id="other")]
    assert [(id, of) for id, _, of, _ in found(*rows)] == [("b", "a"), ("c", "a")]
    within = Spec(workspace="w", near_duplicates=NearDuplicates(within="task"))
    assert [(id, of) for id, _, of, _ in found(*rows, spec=within)] == [("c", "b")]


def test_an_earlier_reason_comes_first():
    rows = [
        row("a", 1, TEXT),
        row("b", 2, TEXT + " end", effects="paid"),
        row("c", 3, "x", effects="paid", chain=[1, 2]),
        row("d", 4, "y", chain=[1]),
        row("e", 5, TEXT, content_digest="digest of d"),
    ]
    dropped = table_of(*rows)
    assert [tuple(row.values())[:3] for row in dropped.to_pylist()] == [
        ("b", "near duplicate", "a"),
        ("c", "same effects", "b"),
        ("d", "prefix duplicate", "c"),
        ("e", "exact duplicate", "d"),
    ]


@pytest.mark.parametrize("threshold", [0.7, 0.9])
def test_planted_copies_are_found_and_nothing_else(threshold):
    """Recall of at least .97 and precision of 1, by sets of words that are counted here."""
    rng = np.random.default_rng(3)
    rows, pairs = [], {}
    for pair in range(700):
        shared = int(rng.integers(60, 81))
        for side in "ab":
            own = [f"both{pair}x{i}" for i in range(shared)] + [f"{side}{pair}x{i}" for i in range(80 - shared)]
            rows.append(row(f"{pair:03d}{side}", len(rows), " ".join(rng.permutation(own))))
        pairs[f"{pair:03d}b"] = shared / (160 - shared)
    spec = Spec(workspace="w", near_duplicates=NearDuplicates(threshold=threshold, shingle=1))
    dropped = {id: (of, similarity) for id, _, of, similarity in found(*rows, spec=spec)}
    alike = {id for id, similarity in pairs.items() if similarity >= threshold}
    assert all(of == id[:3] + "a" and similarity == pairs[id] for id, (of, similarity) in dropped.items())
    assert dropped.keys() <= alike
    assert len(dropped) >= 0.97 * len(alike) > 100


def test_no_rows():
    assert found() == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "content_digest": st.sampled_from("12345678"),
                "task_id": st.sampled_from("tu"),
                "effects": st.sampled_from([None, "a", "b", "c"]),
                "chain": st.lists(st.integers(1, 2), max_size=4),
                "text": st.lists(st.sampled_from("abc"), max_size=6).map(" ".join),
            }
        ),
        max_size=12,
    ),
    st.randoms(),
)
def test_the_order_of_rows_leaves_no_trace(given, random):
    rows = []
    for rank, own in enumerate(given):
        # A chain of numbers as a fold of the steps, so that it is one.
        chain = np.cumsum([7**place * step for place, step in enumerate(own["chain"])]).tolist()
        rows.append({"trajectory_id": str(rank), "rank": rank} | own | {"chain": chain})
    spec = Spec(workspace="w", near_duplicates=NearDuplicates(threshold=0.5, shingle=2))
    dropped = found(*rows, spec=spec)
    random.shuffle(rows)
    assert found(*rows, spec=spec) == dropped
    # Whatever goes, goes for a better row, and something stays wherever there was anything.
    assert all(int(of) < int(id) for id, _, of, _ in dropped)
