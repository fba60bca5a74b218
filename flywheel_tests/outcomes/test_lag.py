"""Arrival lag, revisions and waiting, over ledgers small enough to count by hand."""

import pytest

from flywheel.outcomes.lag import HOURS, WAITS, curves, draw
from flywheel.outcomes.policy import RewardPolicy, Signal, checked
from flywheel_tests.outcomes.stored import at, outcome, store, trajectory

STOOD = checked("reopened")


@pytest.fixture
def week(home):
    """Four of one age and one that is an hour old: one is reopened after 10 hours, one after 30; one is revised."""
    store(home, *(trajectory(id) for id in "abcd"), trajectory("young", hours=99))
    store(home, *(outcome(id, "checker", 1.0, hours=hours) for id, hours in zip("abc", (0, 0, 2), strict=True)))
    store(home, outcome("a", "reopened", 0.0, hours=10), outcome("b", "reopened", 0.0, hours=30))
    store(home, outcome("c", "checker", 0.0, hours=20), outcome("c", "checker", 0.0, hours=20, arrived_at=at(22)))
    return home


def test_hours_to_the_first_outcome(week):
    lags = curves(week, "w", STOOD, at(100)).lags.to_pylist()
    assert [(row["signal"], row["trajectories"], row["heard"], row["p50"], row["longest"]) for row in lags] == [
        ("checker", 5, 3, 0.0, 2.0),
        ("reopened", 5, 2, 20.0, 30.0),
    ]


def test_the_young_are_not_silent(week):
    rows = curves(week, "w", STOOD, at(100)).curves.to_pylist()
    heard = {(row["signal"], row["hours"]): (row["heard"], row["trajectories"], row["share"]) for row in rows}
    assert heard["checker", 0.0] == (2, 5, 0.4)
    assert heard["checker", 2.0] == (3, 4, 0.75)
    assert heard["reopened", 6.0] == (0, 4, 0.0)
    assert heard["reopened", 36.0] == (2, 4, 0.5)
    assert {hours for _, hours in heard} == {hours for hours in HOURS if hours <= 100}


def test_what_revisions_changed(week):
    assert curves(week, "w", STOOD, at(100)).revisions.to_pylist() == [
        {"signal": "checker", "heard": 3, "revised": 1, "changed": 1, "share_changed": 1 / 3},
        {"signal": "reopened", "heard": 2, "revised": 0, "changed": 0, "share_changed": 0.0},
    ]


def test_what_waiting_longer_would_have_changed(week):
    rows = curves(week, "w", STOOD, at(100)).waits.to_pylist()
    assert [(r["wait_hours"], r["trajectories"], r["labelled"], r["wrong"], r["label_error"]) for r in rows] == [
        (0.0, 5, 2, 2, 1.0),
        (1.0, 5, 2, 2, 1.0),
        (6.0, 4, 3, 3, 1.0),
        (12.0, 4, 3, 2, 2 / 3),
        (24.0, 4, 3, 1, 1 / 3),
        (48.0, 4, 3, 0, 0.0),
        (72.0, 4, 3, 0, 0.0),
        (168.0, 0, 0, 0, None),
    ]
    assert tuple(r["wait_hours"] for r in rows) == WAITS


def test_nothing_arrived_or_nothing_said(home):
    found = curves(home, "w", STOOD, at(0))
    assert (found.lags.num_rows, found.curves.num_rows, found.revisions.num_rows) == (2, 0, 2)
    store(home, trajectory("a"))
    assert curves(home, "w", STOOD, at(1)).lags["heard"].to_pylist() == [0, 0]


def test_steps_have_their_own_lag(home):
    store(home, trajectory("a"), outcome("a", "judge", 1.0, hours=1), outcome("a", "judge", 1.0, hours=3, step_index=0))
    policy = RewardPolicy(signals=(Signal(name="judge", steps="mean"),))
    assert curves(home, "w", policy, at(9)).lags["p50"].to_pylist() == [3.0]


def test_a_picture(week, tmp_path):
    draw(curves(week, "w", STOOD, at(100)), tmp_path / "plots" / "lag.png", "a title")
    assert (tmp_path / "plots" / "lag.png").read_bytes().startswith(b"\x89PNG")
    draw(curves(week, "w", STOOD, at(-100)), tmp_path / "empty.png")
