"""A later time decided from an earlier version is decided as if nothing had been decided before."""

from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.curate.decide import decide
from flywheel.curate.kinship import Kin
from flywheel.curate.spec import Caps, NearDuplicates, Spec
from flywheel.curate.update import Standing, update
from flywheel.outcomes.policy import checked
from flywheel.settings import Home
from flywheel_tests.outcomes.stored import at, outcome, store, trajectory

SPEC = Spec(
    workspace="w",
    filter="reward > 0",
    reward_policy=checked("reopened", wait_hours=30),
    near_duplicates=NearDuplicates(threshold=0.6, shingle=2),
    holdout_percent=30,
)
LONG = "please look up the order and send the refund for the parcel that never came to my house"

# What is said in a few episodes: equal, beginnings of one another, nearly equal, and like nothing.
SAID = (
    ("hello", "good day"),
    ("hello", "good day", "and more", "of it"),
    (LONG, "done"),
    (LONG + " today", "done"),
    (LONG + " today or tomorrow", "done"),
    ("something else", "altogether"),
)


def standing(home: Home, spec: Spec, hours: float, decided: pa.Table, folder) -> Standing:
    """A version as the corpus would tell of it."""
    path = folder / "decided.parquet"
    import pyarrow.parquet as pq

    pq.write_table(decided, path)
    read = {
        str(file.relative_to(home.root))
        for root in (home.captures, home.outcomes)
        for file in warehouse.files(root, "w")
        if file.parent.name <= f"day={at(hours).date().isoformat()}"
    }
    return Standing(
        recipe_hash=spec.recipe_hash,
        as_of=at(hours),
        inputs=frozenset(read),
        decisions=f"read_parquet('{path}')",
    )


def patched(before: pa.Table, changes: pa.Table) -> list[dict]:
    """Earlier decisions with what changed put in."""
    rows = {row["trajectory_id"]: row for row in before.to_pylist() + changes.to_pylist()}
    return [rows[id] for id in sorted(rows)]


episodes = st.tuples(st.integers(0, len(SAID) - 1), st.integers(0, 3), st.floats(0, 90))
verdicts = st.tuples(
    st.integers(0, 11), st.sampled_from(["checker", "reopened"]), st.sampled_from([0.0, 1.0]), st.floats(0, 95)
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(episodes, min_size=1, max_size=12),
    heard=st.lists(verdicts, max_size=30),
    first=st.floats(0, 60),
    more=st.floats(0, 40),
    written=st.integers(0, 12),
)
def test_what_changed_is_what_deciding_anew_says(tmp_path_factory, told, heard, first, more, written):
    folder = tmp_path_factory.mktemp("update")
    home = Home(folder / "data")
    rows = [
        trajectory(f"t{n:02}", *SAID[said], hours=hours, task=f"task {task}")
        for n, (said, task, hours) in enumerate(told)
    ]
    facts = [outcome(f"t{n:02}", signal, value, hours) for n, signal, value, hours in heard]
    # Some are on the disk when the first version is decided. The others are written later, though some arrived before.
    store(home, *rows[:written], *facts[: 2 * written])
    before = decide(home, SPEC, at(first))
    standing_then = standing(home, SPEC, first, before, folder)
    store(home, *rows[written:], *facts[2 * written :])
    changes = update(home, SPEC, at(first + more), standing_then)
    assert changes is not None
    assert patched(before, changes) == decide(home, SPEC, at(first + more)).to_pylist()


@pytest.fixture
def decided(home, tmp_path):
    """Three episodes of which two repeat each other, and how they stand at noon."""
    store(home, trajectory("a", "hi", "hello"), trajectory("b", "hi", "hello"), trajectory("c", "bye", "farewell"))
    store(home, *(outcome(id, "checker", 1.0) for id in "abc"), *(outcome(id, "reopened", 1.0) for id in "abc"))
    before = decide(home, SPEC, at(0))
    return before, standing(home, SPEC, 0, before, tmp_path)


def ids(table: pa.Table | None) -> Sequence[str]:
    assert table is not None
    return table["trajectory_id"].to_pylist()


def test_nothing_new_changes_nothing(home, decided):
    assert ids(update(home, SPEC, at(100), decided[1])) == []


def test_what_a_row_stood_in_the_way_of_is_decided_again_with_it(home, decided):
    store(home, outcome("a", "reopened", 0.0, hours=2))
    changes = update(home, SPEC, at(3), decided[1])
    assert ids(changes) == ["a", "b"]
    # It is held out, where a lesser reward is no reason to go; only the better record stands for both.
    assert [row["reason"] for row in changes.to_pylist()] == ["exact duplicate", "held out"]


def test_of_an_id_that_was_captured_again_the_first_arrival_stands(home, decided):
    before, standing_then = decided
    store(home, trajectory("a", "bye", "farewell", hours=1), trajectory("a", "hi", "hello", hours=2))
    store(home, outcome("c", "reopened", 0.0, hours=2), trajectory("d", "hi", "hello", hours=2))
    store(home, outcome("d", "checker", 1.0, hours=2), outcome("d", "reopened", 1.0, hours=2))
    changes = update(home, SPEC, at(3), standing_then)
    assert ids(changes) == ["c", "d"]
    assert changes is not None
    assert patched(before, changes) == decide(home, SPEC, at(3)).to_pylist()


def test_another_recipe_an_earlier_time_or_a_cap_is_decided_anew(home, decided):
    _, standing_then = decided
    assert update(home, msgspec.structs.replace(SPEC, filter="true"), at(3), standing_then) is None
    assert update(home, SPEC, at(-1), standing_then) is None
    capped = msgspec.structs.replace(SPEC, caps=Caps(per_task=1))
    assert update(home, capped, at(3), msgspec.structs.replace(standing_then, recipe_hash=capped.recipe_hash)) is None


def test_a_file_that_is_gone_is_decided_anew(home, decided):
    _, standing_then = decided
    warehouse.files(home.outcomes, "w")[0].unlink()
    assert update(home, SPEC, at(3), standing_then) is None


def test_kin_are_found_from_either_side(home):
    said = dict(zip("abcdef", SAID, strict=True))
    store(home, *(trajectory(id, *texts, task=id) for id, texts in said.items()), trajectory("g", *SAID[5], task="x"))

    def kin(id: str) -> set[str]:
        found = Kin(home, SPEC).of(pa.chunked_array([[id]]), 1.0, 0)
        assert found is not None
        return set(ids(found.ids()))

    assert kin("a") == kin("b") == {"a", "b"}
    assert {"c", "d"} <= kin("c") and {"c", "d", "e"} <= kin("d")
    assert kin("f") == kin("g") == {"f", "g"}
