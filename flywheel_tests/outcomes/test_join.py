"""Verdicts as of a moment, from literal ledgers and from any order of arrival."""

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.outcomes.join import JOINED, joined
from flywheel.outcomes.policy import RewardPolicy, Signal, checked
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.outcomes.stored import at, outcome, store, store_each, trajectory

STOOD = checked("reopened")


def verdict(home, policy=RewardPolicy(), hours=0.0):
    """State, reward and success of the only trajectory."""
    (row,) = joined(home, "w", policy, at(hours)).to_pylist()
    return row["state"], row["reward"], row["success"]


def test_nothing_stored_is_an_empty_table(home):
    assert joined(home, "w", RewardPolicy(), at(0)).equals(JOINED.empty_table())


def test_unlabelled_is_not_success(home):
    store(home, trajectory("a"))
    assert verdict(home) == ("expired", None, None)


def test_a_reward_resolves(home):
    store(home, trajectory("a"), trajectory("b"), outcome("b", "reward", 0.0), outcome("a", "reward", 1.0))
    told = outcome("a", "reward", 1.0)
    assert joined(home, "w", RewardPolicy(), at(0)).to_pylist()[0] == {
        "trajectory_id": "a",
        "state": "resolved",
        "reward": 1.0,
        "success": True,
        "signals": [{"signal": "reward", "value": 1.0, "outcome_id": told.id, "weight": 1.0, "role": "counted"}],
        "matures_at": at(0),
    }


def test_a_late_veto_is_waited_for_then_its_silence_speaks_then_it_is_heard_all_the_same(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0), outcome("a", "reopened", 0.0, hours=72))
    assert verdict(home, STOOD, 0) == ("pending", None, None)
    assert verdict(home, STOOD, 47.9) == ("pending", None, None)
    assert verdict(home, STOOD, 48) == ("resolved", 1.0, True)
    assert verdict(home, STOOD, 72) == ("resolved", 0.0, False)


def test_an_assumed_silence_has_no_ledger_row(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0))
    (row,) = joined(home, "w", STOOD, at(48)).to_pylist()
    assert row["signals"][1] == {
        "signal": "reopened",
        "value": 1.0,
        "outcome_id": None,
        "weight": 1.0,
        "role": "assumed",
    }
    assert row["matures_at"] == at(48)


def test_a_veto_within_its_wait_ends_the_wait(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0), outcome("a", "reopened", 0.0, hours=5))
    assert verdict(home, STOOD, 5) == ("resolved", 0.0, False)


def test_the_latest_revision_of_a_source_counts_by_when_it_was_true(home):
    store(home, trajectory("a"), outcome("a", "reward", 1.0, hours=2))
    store(home, outcome("a", "reward", 0.0, hours=1, arrived_at=at(3)))
    assert verdict(home, hours=3) == ("resolved", 1.0, True)
    store(home, outcome("a", "reward", 0.5, hours=4))
    assert verdict(home, hours=4) == ("resolved", 0.5, False)


def test_voices_that_disagree_are_held_or_the_latest_is_believed(home):
    store(
        home,
        trajectory("a"),
        outcome("a", "reward", 1.0, checker_version="1"),
        outcome("a", "reward", 0.0, hours=1, checker_version="2"),
    )
    assert verdict(home, hours=0) == ("resolved", 1.0, True)
    assert verdict(home, hours=1) == ("conflicting", None, None)
    assert verdict(home, RewardPolicy(on_conflict="latest"), hours=1) == ("resolved", 0.0, False)
    (row,) = joined(home, "w", RewardPolicy(), at(1)).to_pylist()
    assert [heard["value"] for heard in row["signals"]] == [1.0, 0.0]


def test_voices_that_differ_but_agree_on_success_do_not_conflict(home):
    store(home, trajectory("a"), outcome("a", "reward", 0.7, source="x"), outcome("a", "reward", 0.9, 1, source="y"))
    assert verdict(home, RewardPolicy(success_at=0.5), 1) == ("resolved", 0.9, True)


def test_rewards_of_steps_stay_with_their_steps(home):
    store(home, trajectory("a"), outcome("a", "reward", 1.0, step_index=0))
    assert verdict(home) == ("expired", None, None)


@pytest.mark.parametrize(
    ("combine", "reward"),
    [("min", 0.2), ("mean", (1.0 + 3 * 0.2) / 4), ("first", 0.2)],
)
def test_signals_are_combined(home, combine, reward):
    signals = (
        Signal(name="person", required=False),
        Signal(name="judge", weight=3.0),
        Signal(name="checker"),
    )
    store(home, trajectory("a"), outcome("a", "checker", 1.0), outcome("a", "judge", 0.2))
    policy = RewardPolicy(signals=signals, combine=combine, success_at=0.2)
    assert verdict(home, policy) == ("resolved", reward, True)


def test_first_prefers_what_was_said_to_what_is_assumed(home):
    signals = (Signal(name="person", silence=0.5), Signal(name="checker"))
    store(home, trajectory("a"), outcome("a", "checker", 1.0))
    assert verdict(home, RewardPolicy(signals=signals, combine="first")) == ("resolved", 1.0, True)


def test_a_required_signal_that_stays_silent_leaves_no_verdict(home):
    signals = (Signal(name="checker"), Signal(name="person", wait_hours=2))
    store(home, trajectory("a"), outcome("a", "checker", 1.0))
    assert verdict(home, RewardPolicy(signals=signals), 1) == ("pending", None, None)
    assert verdict(home, RewardPolicy(signals=signals), 2) == ("expired", None, None)


def test_names_are_data(home):
    store(home, trajectory("a'; --"), outcome("a'; --", "it's", 1.0))
    assert verdict(home, RewardPolicy(signals=(Signal(name="it's"),))) == ("resolved", 1.0, True)


def test_a_time_without_a_zone_is_refused(home):
    with pytest.raises(FlywheelError, match="no time zone"):
        joined(home, "w", RewardPolicy(), datetime(2026, 1, 1))


IDS = ("a", "b", "c")
outcomes = st.builds(
    outcome,
    st.sampled_from(IDS),
    st.sampled_from(("checker", "reopened", "unheard of")),
    st.sampled_from((0.0, 0.5, 1.0)),
    hours=st.sampled_from((0, 1, 30, 60)),
    source=st.sampled_from(("x", "y")),
    arrived_at=st.sampled_from((at(0), at(1), at(30), at(60))),
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(outcomes, max_size=12, unique_by=lambda o: (o.id, o.arrived_at)), st.data())
def test_any_order_and_any_cut_of_arrivals_give_the_same_verdicts(facts, data):
    """And neither what arrives after the moment nor rewards of single steps change any of them."""
    records = [*(trajectory(id, hours=hours) for id, hours in zip(IDS, (0, 1, 2), strict=True)), *facts]
    shuffled = data.draw(st.permutations(records))
    cut = data.draw(st.integers(0, len(records)))
    steps = [outcome(id, "checker", 0.0, hours=1, step_index=0) for id in IDS]
    later = [outcome(id, "checker", 0.0, hours=31, source="later") for id in IDS]
    policy = checked("reopened", wait_hours=24)
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        homes = [Home(Path(folder)) for folder in (one, other)]
        store(homes[0], *records)
        store_each(homes[1], [shuffled[:cut], shuffled[cut:], steps, later, [*facts, *later]])
        first, second = (joined(home, "w", policy, at(30)) for home in homes)
        assert first.to_pylist() == second.to_pylist()
        for row in first.to_pylist():
            assert (row["state"] == "pending") == (row["matures_at"] > at(30))
            assert (row["reward"] is None) == (row["state"] != "resolved")


def test_a_verdict_as_of_a_moment_never_changes(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0))
    before = joined(home, "w", STOOD, at(50))
    store(home, outcome("a", "reopened", 0.0, hours=1, arrived_at=at(50) + timedelta(microseconds=1)))
    assert joined(home, "w", STOOD, at(50)).equals(before)
    assert verdict(home, STOOD, 51) == ("resolved", 0.0, False)


def test_a_trajectory_stored_twice_is_one_with_its_first_arrival(home):
    store(home, trajectory("a", hours=5), outcome("a", "checker", 1.0))
    store(home, trajectory("a", hours=0))
    assert verdict(home, STOOD, 48) == ("resolved", 1.0, True)
