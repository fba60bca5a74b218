"""Baselines: agents of several environments as one, and what the scripted ones reach."""

from flywheel.evaluate.baselines import CAPTURED, Team, players
from flywheel.evaluate.comparison import rates
from flywheel.evaluate.entrants import play_all
from flywheel.evaluate.suite import Suite, named, run
from flywheel_tests.evaluate.toy import Solver, Toy


def test_a_team_lets_the_member_of_each_environment_act():
    team = Team("team", {"one": Solver("able"), "two": Solver("unable", lambda i: False)})
    assert team.version == "one:able@1,two:unable@1"
    results = run(Suite(environments={"one": 2, "two": 1}), team, lookup=Toy)
    assert [(r["policy"], r["environment"], r["success"]) for r in results.to_pylist()] == [
        ("team", "one", True),
        ("team", "one", True),
        ("team", "two", False),
    ]


def test_baselines_of_the_environments_that_ship():
    suite = named("heldout", 60)
    found = {(r.policy, r.temperature): r for r in rates(play_all(suite, players(suite)))}
    assert set(found) == {
        ("empty", 0.0),
        ("lazy", 0.0),
        ("refuser", 0.0),
        ("careful-refuser", 0.0),
        (CAPTURED, 0.0),
        (CAPTURED, 1.0),
    }
    assert found["empty", 0.0].success <= 0.05
    assert 0.3 < found[CAPTURED, 1.0].success < 0.9
    # The habit: act at once. As captured, agents look first a quarter of the time.
    assert found[CAPTURED, 0.0].checked_first == 0.0
    assert 0.1 < (found[CAPTURED, 1.0].checked_first or 0.0) < 0.5
