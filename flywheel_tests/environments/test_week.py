"""A week of production, and what is heard of it afterwards."""

from collections import Counter
from itertools import groupby

from flywheel import environments
from flywheel.environments import week
from flywheel.environments.aftermath import aftermath, first_verdict
from flywheel.environments.habits import captured
from flywheel.rollout.episode import Episode, play

DESK = environments.get("desk")


def episodes(n: int = 2000) -> list[Episode]:
    return play(DESK, DESK.tasks("train", n, 0), captured("desk-bot", "1.0"), temperature=1.0)


def test_a_day_is_shared_by_the_environments_and_a_few_tasks_are_of_held_out_templates():
    day = week.plan(0, seed=0, n=100)
    assert Counter(a.environment.name for a in day) == {"desk": 50, "files": 50}
    heldout = {t.group for place in map(environments.get, environments.names()) for t in place.templates["heldout"]}
    assert sum(a.task.group in heldout for a in day) == 6
    assert week.plan(0, seed=0, n=100) == day


def test_versions_follow_one_another_and_a_day_comes_in_groups():
    versions = [sorted({a.agent.version for a in week.plan(day, seed=0, n=200)}) for day in range(9)]
    assert versions == [
        ["1.0"],
        ["1.0"],
        ["1.0", "1.1"],
        ["1.1"],
        ["1.1"],
        ["1.1", "2.0"],
        ["2.0"],
        ["2.0"],
        ["2.0"],
    ]
    groups = [key for key, _ in groupby(week.plan(2, seed=0, n=200), key=lambda a: (a.agent.name, a.agent.version))]
    assert groups == [("desk-bot", "1.0"), ("desk-bot", "1.1"), ("files-bot", "1.0"), ("files-bot", "1.1")]


def test_no_two_days_share_a_task():
    ids = [a.task.id for day in range(8) for a in week.plan(day, seed=0, n=50)]
    assert len(set(ids)) == len(ids)


def test_one_environment_may_work_alone():
    assert {a.environment.name for a in week.plan(0, seed=0, n=10, environments=("files",))} == {"files"}


def test_the_first_verdict_passes_all_that_is_right_and_some_that_is_wrong():
    played = episodes()
    passed = [e for e in played if first_verdict(e.task, e.steps, e.score)]
    assert all(e in passed for e in played if e.score.success)
    assert 0.05 < sum(not e.score.success for e in passed) / len(passed) < 0.2


def test_late_signals_tell_the_truth_of_a_few():
    heard = [(e, s) for e in episodes() for s in aftermath(e.task, e.steps, e.score, seed=0)]
    assert {s.signal for _, s in heard} == {"ticket_reopened"}
    assert all(s.value == float(e.score.success) for e, s in heard)
    undone = [s for _, s in heard if s.value == 0]
    wrong = [e for e in episodes() if first_verdict(e.task, e.steps, e.score) and not e.score.success]
    assert 0.15 < len(undone) / len(wrong) < 0.35
    delays = [s.delay_hours for _, s in heard]
    assert all(2 <= d <= 48 or 72 <= d <= 192 for d in delays)
    assert min(delays) < 48 and max(delays) > 72


def test_the_aftermath_is_a_function():
    played = episodes(300)
    assert [aftermath(e.task, e.steps, e.score, 1) for e in played] == [
        aftermath(e.task, e.steps, e.score, 1) for e in played
    ]
