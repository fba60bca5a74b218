"""Suites played by scripted actors: rows, the cache, and what a kill costs."""

import pytest

from flywheel.evaluate import suite as suites
from flywheel.evaluate.suite import PART, Suite, named, run, shown
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.evaluate.toy import Solver, Toy

SUITE = Suite(environments={"toy": 3}, seed=5)


def test_one_row_a_task():
    table = run(SUITE, Solver("half", lambda i: i % 2 == 0), lookup=Toy)
    assert table.schema.names[0] == "policy"
    assert table.drop_columns(["cpu_seconds"]).to_pylist() == [
        {
            "policy": "half",
            "temperature": 0.0,
            "seed": 5,
            "environment": "toy",
            "task_id": f"toy/{i}/heldout-5-{i}",
            "task_group": f"toy/{i}",
            "success": success,
            "credit": 1.0 if success else 0.25,
            "turns": 3 if success else 2,
            "tokens": 9 if success else 6,
            "end_state": "completed",
            "checks": '{"solved": true}' if success else '{"solved": false}',
            "tool_calls": 2 if success else 1,
            "tool_errors": 0,
            "checked_first": True,
        }
        for i, success in enumerate([True, False, True])
    ]


def test_checked_first_tells_who_acts_at_once():
    assert run(SUITE, Solver("hasty", looks=False), lookup=Toy)["checked_first"].to_pylist() == [False] * 3


def test_a_finished_evaluation_is_not_played_again(home: Home):
    first, again = Solver("a"), Solver("b")
    played = run(SUITE, first, digest="w", cache=home.evaluations, lookup=Toy)
    told: list[int] = []
    found = run(SUITE, again, digest="w", cache=home.evaluations, lookup=Toy, progress=told.append)
    # The same weights under another name: the rows are found, and bear the new name.
    assert (first.asked, again.asked, told) == (9, 0, [3])
    assert found.drop_columns(["policy"]).equals(played.drop_columns(["policy"]))
    assert set(found["policy"].to_pylist()) == {"b"}


@pytest.mark.parametrize(
    ("suite", "options"),
    [
        (SUITE, {"digest": "other"}),
        (SUITE, {"temperature": 1.0}),
        (SUITE, {"seed": 6}),
        (Suite(environments={"toy": 3}, seed=6), {"seed": 5}),
        (Suite(environments={"toy": 3}, seed=5, max_turns=2), {}),
        (Suite(environments={"toy": 3}, seed=5, split="train"), {}),
    ],
)
def test_anything_that_rows_depend_on_makes_them_new(home: Home, suite: Suite, options: dict):
    run(SUITE, Solver("a"), digest="w", cache=home.evaluations, lookup=Toy)
    again = Solver("a")
    run(suite, again, **{"digest": "w", **options}, cache=home.evaluations, lookup=Toy)
    assert again.asked


def test_a_killed_evaluation_goes_on_where_it_was(home: Home):
    suite = Suite(environments={"one": PART + 2, "two": PART + 2}, seed=0)

    class Dies(Solver):
        def act(self, situations, **rest):
            if situations[0].task.environment == "two":
                raise KeyboardInterrupt
            return super().act(situations, **rest)

    with pytest.raises(KeyboardInterrupt):
        run(suite, Dies("a"), digest="w", cache=home.evaluations, lookup=Toy)
    again, told = Solver("a"), []
    resumed = run(suite, again, digest="w", cache=home.evaluations, lookup=Toy, progress=told.append)
    whole = run(suite, Solver("a"), lookup=Toy)
    assert again.asked == 3 * (PART + 2)
    assert told == [PART, PART + 2, 2 * PART + 2, 2 * PART + 2, 2 * PART + 4, 2 * PART + 4]
    assert resumed.drop_columns(["cpu_seconds"]).equals(whole.drop_columns(["cpu_seconds"]))


def test_what_a_suite_shows_for_the_leakage_audit():
    assert shown(SUITE, Toy).to_pylist()[0] == {"task_id": "toy/0/heldout-5-0", "task_group": "toy/0", "text": "task 0"}


def test_named_suites():
    assert named("desk", 7).environments == {"desk": 7}
    assert named("heldout", 2, seed=3) == Suite(name="heldout", environments={"desk": 2, "files": 2}, seed=3)
    with pytest.raises(FlywheelError, match="there are: heldout, desk, files"):
        named("moon", 1)


def test_an_empty_suite_has_the_columns():
    assert run(Suite(environments={}), Solver("a"), lookup=Toy).num_rows == 0
    assert suites.RESULTS.equals(run(Suite(environments={}), Solver("a"), lookup=Toy).schema)
