"""Decisions: every candidate has one, with a reason, whatever the order in which things arrived."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.decide import DECISIONS, REASONS, decide
from flywheel.curate.spec import NearDuplicates, Spec
from flywheel.curate.split import split_of
from flywheel.outcomes.policy import checked
from flywheel.schema import FlywheelError, content_digest
from flywheel.settings import Home
from flywheel_tests.outcomes.stored import at, outcome, store, store_each, trajectory

LONG = " ".join(f"word{i}" for i in range(100))
ALL_TRAIN = Spec(workspace="w", holdout_percent=0)


def reasons(home, spec=ALL_TRAIN, hours=0.0):
    """Reason and detail by trajectory."""
    rows = decide(home, spec, at(hours)).to_pylist()
    return {row["trajectory_id"]: (row["reason"], row["detail"]) for row in rows}


def labelled(id, *said, reward=1.0, **fields):
    return trajectory(id, *said, **fields), outcome(id, "reward", reward)


def test_no_candidates(home):
    assert decide(home, ALL_TRAIN, at(0)).equals(DECISIONS.empty_table())


def test_a_decision_in_full(home):
    store(home, *labelled("a", "hi", "hello"))
    (row,) = decide(home, ALL_TRAIN, at(0)).to_pylist()
    told = outcome("a", "reward", 1.0)
    digested = f"{content_digest(trajectory('a', 'hi', 'hello'))}|1|true|train|a"
    assert len(row.pop("decision_digest")) == 32
    assert row == {
        "trajectory_id": "a",
        "content_digest": content_digest(trajectory("a", "hi", "hello")),
        "kept": True,
        "split": "train",
        "reason": "kept",
        "detail": None,
        "similarity": None,
        "reward": 1.0,
        "success": True,
        "state": "resolved",
        "signals": [{"signal": "reward", "value": 1.0, "outcome_id": told.id, "weight": 1.0, "role": "counted"}],
        "row_digest": hashlib.sha256(digested.encode()).hexdigest(),
    }


def test_rows_without_a_verdict_are_dropped_with_the_reason(home):
    spec = Spec(workspace="w", reward_policy=checked("reopened"), holdout_percent=0, filter="true")
    store(home, trajectory("waits", hours=5), outcome("waits", "checker", 1.0))
    store(home, trajectory("torn"), outcome("torn", "checker", 1.0), outcome("torn", "checker", 0.0, source="other"))
    store(home, trajectory("silent"))
    assert reasons(home, spec, 48) == {
        "silent": ("unlabelled", "checker"),
        "torn": ("conflicting", "checker"),
        "waits": ("pending", "2026-03-03T17:00:00Z"),
    }


def test_the_filter(home):
    store(home, *labelled("a"), *labelled("b", reward=0.0))
    assert reasons(home) == {"a": ("kept", None), "b": ("filtered", None)}
    with pytest.raises(FlywheelError, match="there is no column nope"):
        reasons(home, Spec(workspace="w", filter="nope = 1"))


def test_of_equals_the_best_stays(home):
    """More reward, then more complete, then earlier, then the lesser id; never the order in the files."""
    spec = Spec(workspace="w", filter="true", holdout_percent=0)
    store(home, *labelled("z", "same", reward=1.0, task="other"), *labelled("a", "same", reward=0.5))
    store(home, *labelled("y", "again", hours=-1, end_state="partial"), *labelled("b", "again"))
    store(home, *labelled("x", "late"), *labelled("c", "late", hours=-1), *labelled("d", "late", hours=-1))
    assert reasons(home, spec) == {
        "a": ("exact duplicate", "z"),
        "b": ("kept", None),
        "c": ("kept", None),
        "d": ("exact duplicate", "c"),
        "x": ("exact duplicate", "c"),
        "y": ("exact duplicate", "b"),
        "z": ("kept", None),
    }


def test_near_duplicates_unless_they_are_not_looked_for(home):
    store(home, *labelled("a", LONG, "done"), *labelled("b", LONG, "all done"))
    assert reasons(home)["b"] == ("near duplicate", "a")
    assert reasons(home, Spec(workspace="w", holdout_percent=0, near_duplicates=None))["b"] == ("kept", None)


def test_a_row_that_is_filtered_hides_no_other(home):
    """A duplicate is only looked for among rows that would be kept."""
    store(home, *labelled("a", "same", agent="bad"), *labelled("b", "same"))
    assert reasons(home, Spec(workspace="w", filter="agent <> 'bad'", holdout_percent=0))["b"] == ("kept", None)


HELD, TRAINED = (next(t for t in "abcdefghij" if split_of(f"group of {t}") == side) for side in ("heldout", "train"))


def test_held_out_rows_are_kept_for_evaluation_whatever_their_reward(home):
    store(home, *labelled("a", task=HELD), *labelled("b", task=HELD, reward=0.0), *labelled("c", task=TRAINED))
    rows = decide(home, Spec(workspace="w"), at(0)).to_pylist()
    assert [(r["split"], r["reason"], r["kept"], r["success"]) for r in rows] == [
        ("heldout", "held out", True, True),
        ("heldout", "held out", True, False),
        ("train", "kept", True, True),
    ]


def test_a_training_row_that_repeats_a_held_out_one_is_the_one_to_go(home):
    store(home, *labelled("a", "same", task=TRAINED), *labelled("b", "same", task=HELD, reward=0.0))
    store(home, *labelled("c", LONG, task=TRAINED), *labelled("d", LONG + " end", task=HELD))
    found = reasons(home, Spec(workspace="w"))
    assert found["a"] == ("exact duplicate", "b")
    assert found["c"] == ("near duplicate", "d")


def test_a_late_outcome_changes_the_next_decision_and_its_digest_alone(home):
    spec = Spec(workspace="w", reward_policy=checked("reopened"), holdout_percent=0, filter="true")
    store(home, trajectory("a"), trajectory("b"), outcome("a", "checker", 1.0), outcome("b", "checker", 1.0))
    before = decide(home, spec, at(48))
    store(home, outcome("a", "reopened", 0.0, hours=60))
    assert decide(home, spec, at(48)).equals(before)
    after = decide(home, spec, at(60)).to_pylist()
    assert [row["success"] for row in after] == [False, True]
    digests = before["row_digest"].to_pylist()
    assert after[0]["row_digest"] != digests[0]
    assert after[1]["row_digest"] == digests[1]


TEXTS = ("one", "two", LONG, LONG + " end", LONG + " stop", LONG.replace("word50", "x"))
candidates = st.builds(
    trajectory,
    st.sampled_from([f"id{i}" for i in range(12)]),
    st.sampled_from(TEXTS),
    hours=st.sampled_from((0, 1, 49)),
    task=st.sampled_from("abcdef"),
    end_state=st.sampled_from(("completed", "partial", "failed")),
)
facts = st.builds(
    outcome,
    st.sampled_from([f"id{i}" for i in range(12)]),
    st.sampled_from(("checker", "reopened")),
    st.sampled_from((0.0, 0.5, 1.0)),
    hours=st.sampled_from((0, 3, 50)),
    source=st.sampled_from(("x", "x", "y")),
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.lists(candidates, max_size=12, unique_by=lambda t: t.id),
    st.lists(facts, max_size=24, unique_by=lambda o: o.id),
    st.data(),
)
def test_any_order_of_arrival_gives_the_same_decisions(rows, outcomes, data):
    """And every candidate is in them once, kept or with a reason."""
    spec = Spec(workspace="w", filter="reward > 0", reward_policy=checked("reopened"), near_duplicates=NearDuplicates())
    records = [*rows, *outcomes]
    shuffled = data.draw(st.permutations(records))
    cut = data.draw(st.integers(0, len(records)))
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        store(Home(Path(one)), *records)
        store_each(Home(Path(other)), [shuffled[:cut], shuffled[cut:], shuffled[:cut]])
        first, second = (decide(Home(Path(folder)), spec, at(49)) for folder in (one, other))
    assert first.to_pylist() == second.to_pylist()
    assert first["trajectory_id"].to_pylist() == sorted(row.id for row in rows)
    for decision in first.to_pylist():
        assert decision["reason"] in REASONS
        assert decision["kept"] == (decision["reason"] in ("kept", "held out"))
        assert (decision["reason"] == "kept") == (decision["kept"] and decision["split"] == "train")
