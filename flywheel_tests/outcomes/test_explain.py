"""Why a trajectory has its reward, told from the ledger."""

import pytest

from flywheel.outcomes.explain import explain, find
from flywheel.outcomes.policy import RewardPolicy, Signal, checked
from flywheel.schema import FlywheelError
from flywheel_tests.outcomes.stored import at, outcome, store, trajectory


def told(home, policy, hours):
    """The arithmetic, and of each row of the ledger its signal, value and how it counted."""
    explained = explain(home, "w", policy, "a", at(hours))
    return explained.arithmetic, [(row["signal"], row["value"], row["counted"]) for row in explained.ledger]


def test_what_counted_and_what_did_not(home):
    store(home, trajectory("a"), outcome("a", "checker", 0.0), outcome("a", "checker", 1.0, hours=1))
    store(home, outcome("a", "checker", 1.0, hours=1, arrived_at=at(2)), outcome("a", "mood", 0.5))
    store(home, outcome("a", "checker", 0.5, step_index=0), outcome("a", "reopened", 0.0, hours=60))
    assert told(home, checked("reopened"), 48) == (
        "min(checker 1, reopened 1 assumed) = 1: success, at 1",
        [
            ("checker", 0.0, "revised"),
            ("checker", 1.0, "counted"),
            ("checker", 1.0, "told twice"),
            ("checker", 0.5, "of a step"),
            ("mood", 0.5, "not in the policy"),
            ("reopened", 0.0, "arrived later"),
        ],
    )
    assert told(home, checked("reopened"), 60)[0] == "min(checker 1, reopened 0) = 0: failure, at 1"


def test_what_is_waited_for_and_until_when(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0))
    explained = explain(home, "w", checked("reopened"), "a", at(1))
    assert explained.arithmetic == "pending until 2026-03-03 12:00:00 UTC"
    assert explained.silent == [
        {"signal": "reopened", "until": at(48), "then": "1 is assumed", "matters": True},
    ]


def test_voices_that_disagree(home):
    store(home, trajectory("a"), outcome("a", "reward", 1.0), outcome("a", "reward", 0.0, hours=1, source="other"))
    assert told(home, RewardPolicy(), 1) == (
        "held back: voices disagree (reward 1, reward 0) about success at 1",
        [("reward", 1.0, "conflict"), ("reward", 0.0, "conflict")],
    )
    assert told(home, RewardPolicy(on_conflict="latest"), 1) == (
        "min(reward 0) = 0: failure, at 1",
        [("reward", 1.0, "another voice was later"), ("reward", 0.0, "counted")],
    )


def test_checker_versions(home):
    store(home, trajectory("a"), *(outcome("a", "checker", 1.0, checker_version=v) for v in ("9", "10", "x")))
    signal = Signal(name="checker", checker_versions=("9", "10"), newest_version=True)
    counted = {
        row["checker_version"]: row["counted"]
        for row in explain(home, "w", RewardPolicy(signals=(signal,)), "a", at(0)).ledger
    }
    assert counted == {"9": "older checker version", "10": "counted", "x": "another checker version"}


def test_tiers_weights_and_steps_in_the_arithmetic(home):
    store(home, trajectory("a"), outcome("a", "judge", 0.5, step_index=0), outcome("a", "judge", 1.0, step_index=1))
    store(home, outcome("a", "checker", 0.25), outcome("a", "cheap", 1.0), outcome("a", "judge", 0.0))
    policy = RewardPolicy(
        signals=(
            Signal(name="judge", steps="mean", tier=1),
            Signal(name="checker", weight=3.0, tier=1),
            Signal(name="cheap"),
            Signal(name="late", wait_hours=9),
        ),
        combine="mean",
        success_at=0.5,
    )
    assert told(home, policy, 0) == (
        "mean(judge mean of [0.5, 1] x 1, checker 0.25 x 3) = 0.375: failure, at 0.5",
        [
            ("cheap", 1.0, "outranked"),
            ("checker", 0.25, "counted"),
            ("judge", 0.0, "of the whole"),
            ("judge", 0.5, "counted"),
            ("judge", 1.0, "counted"),
        ],
    )
    assert explain(home, "w", policy, "a", at(0)).silent[0]["matters"] is False


def test_no_verdict(home):
    store(home, trajectory("a"))
    assert told(home, RewardPolicy(), 0) == ("no verdict: reward stayed silent", [])


def test_a_trajectory_is_found_by_the_beginning_of_its_id(home):
    store(home, trajectory("abc"), trajectory("abd"), trajectory("ab"))
    assert find(home, "abc") == find(home, "abc", ["w"]) == ("w", "abc")
    assert find(home, "ab") == ("w", "ab")
    with pytest.raises(FlywheelError, match="begins several ids"):
        find(home, "a")
    with pytest.raises(FlywheelError, match="no trajectory of any workspace"):
        find(home, "x")


def test_what_had_not_arrived_is_not_explained(home):
    store(home, trajectory("a", hours=5))
    with pytest.raises(FlywheelError, match="no trajectory 'a' had arrived in 'w'"):
        explain(home, "w", RewardPolicy(), "a", at(4))
