"""Each candidate can be walked from a version to its source line and to the ledger rows that made its reward."""

from datetime import timedelta

import msgspec
import pytest

from flywheel.corpus.diff import diff
from flywheel.corpus.history import log, why
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, trajectory, verdict, write


@pytest.fixture
def two_versions(week):
    """On Tuesday a customer reopened episode 1, and episode 20 arrived."""
    snapshot(week, "support", SPEC, MONDAY)
    write(
        week,
        [trajectory(20, TUESDAY)],
        [verdict(1, 0.0, "reopened", TUESDAY), verdict(20, 1.0, arrived_at=TUESDAY)],
    )
    snapshot(week, "support", SPEC, TUESDAY)
    return week


def test_the_log_is_newest_first(two_versions):
    assert [(m.version, m.parent, m.candidates) for m in log(two_versions, "support")] == [(2, 1, 13), (1, None, 12)]
    assert manifest(two_versions, "support").version == 2
    assert manifest(two_versions, "support", 1).as_of == MONDAY


def test_why_tells_each_versions_decision_and_the_facts_behind_it(two_versions):
    told = why(two_versions, "support", "t001")
    assert (told["source"], told["source_line"], told["arrived_at"]) == ("desk.jsonl", 2, MONDAY)
    assert [(d["version"], d["reward"], d["success"]) for d in told["decisions"]] == [(1, 1.0, True), (2, 0.0, False)]
    assert [(o["signal"], o["value"], o["counted_in"]) for o in told["outcomes"]] == [
        ("checker", 1.0, ["support@v1", "support@v2"]),
        ("reopened", 0.0, ["support@v2"]),
    ]
    assert len(why(two_versions, None, "t001", 1)["decisions"]) == 1


def test_a_beginning_that_is_unique_is_enough(two_versions):
    assert why(two_versions, "support", "t02")["trajectory_id"] == "t020"
    with pytest.raises(FlywheelError, match="begins the ids of 10 candidates"):
        why(two_versions, "support", "t00")
    with pytest.raises(FlywheelError, match="no candidate of support"):
        why(two_versions, "support", "t999")


def test_a_diff_names_the_late_outcome_and_the_new_arrival(two_versions):
    told = diff(two_versions, "support", 1, 2)
    changed = {row["trajectory_id"]: row for row in told["rows"]}
    assert set(changed) == {"t001", "t020"}
    assert (changed["t020"]["change"], changed["t020"]["why"], changed["t020"]["before"]) == ("in", "arrived", None)
    late = changed["t001"]
    assert (late["change"], late["why"]) in (("out", "late outcome"), ("changed", "late outcome"))
    assert (late["before"]["reward"], late["after"]["reward"]) == (1.0, 0.0)
    [(counts, signal, value)] = [(o["counts"], o["signal"], o["value"]) for o in late["outcomes"]]
    assert (counts, signal, value) == ("after", "reopened", 0.0)
    assert told["whys"] == {"arrived": 1, "late outcome": 1}
    before, after = manifest(two_versions, "support", 1), manifest(two_versions, "support", 2)
    assert before.rows + told["in"] - told["out"] == after.rows
    assert told["same"] + told["changed"] + told["out"] == before.rows


def test_a_diff_backwards_swaps_in_and_out(two_versions):
    forth, back = diff(two_versions, "support", 1, 2), diff(two_versions, "support", 2, 1)
    assert (forth["in"], forth["out"]) == (back["out"], back["in"])


def test_another_recipe_is_named_as_the_cause(week):
    snapshot(week, "support", SPEC, MONDAY)
    snapshot(week, "support", msgspec.structs.replace(SPEC, filter="n_steps > 100"), MONDAY)
    told = diff(week, "support", 1, 2)
    assert told["out"] > 0 and told["in"] == 0
    assert set(told["whys"]) == {"recipe"}


def test_a_silence_that_came_to_count_is_no_late_outcome(home):
    waits = msgspec.structs.replace(SPEC.reward_policy.signals[1], wait_hours=48.0)
    policy = msgspec.structs.replace(SPEC.reward_policy, signals=(SPEC.reward_policy.signals[0], waits))
    spec = msgspec.structs.replace(SPEC, reward_policy=policy)
    write(home, [trajectory(1)], [verdict(1, 1.0)])
    assert snapshot(home, "support", spec, MONDAY).reasons == {"pending": 1}
    assert snapshot(home, "support", spec, MONDAY + timedelta(hours=48)).rows == 1
    [row] = diff(home, "support", 1, 2)["rows"]
    assert (row["change"], row["why"], row["outcomes"]) == ("in", "wait ended", [])
