"""The suites that training rows are audited against."""

import json

import msgspec
import pytest

from flywheel import artifacts
from flywheel.curate.leakage import TASKS, audit
from flywheel.evaluate.suite import Suite
from flywheel.evaluate.suites import audited
from flywheel.schema import FlywheelError, trajectories_table
from flywheel_tests.outcomes.stored import trajectory

OWN = Suite(environments={"desk": 3}, seed=5)


def report(home, name, suite):
    artifacts.write_json(home.reports / name / "report.json", {"id": name, "suite": msgspec.to_builtins(suite)})


def test_a_suite_is_known_by_name_and_seed(home):
    tasks = audited(home, [OWN])
    assert tasks.schema.equals(TASKS) and tasks["suite"].to_pylist() == ["heldout 5"] * 3


def test_suites_of_past_reports_count_and_equal_ones_once(home):
    report(home, "a", OWN)
    report(home, "b", msgspec.structs.replace(OWN, seed=6))
    report(home, "c", msgspec.structs.replace(OWN, split="train", seed=7))
    report(home, "d", Suite(environments={"gone": 3}))
    assert audited(home, [OWN])["suite"].to_pylist() == ["heldout 5"] * 3 + ["heldout 6"] * 3
    assert len(audited(home)) == 6


def test_a_persons_own_tasks_with_answers_and_states(home):
    home.suites.mkdir(parents=True)
    secret = "The seal of the red lamp was broken in May."
    lines = [{"task_id": "1", "text": "Why?", "answers": [secret], "state": "commit 4b825dc"}]
    (home.suites / "lamps.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    tasks = audited(home)
    assert tasks.to_pylist() == [lines[0] | {"suite": "lamps", "task_group": "lamps/1"}]
    (leak,) = audit(trajectories_table([trajectory("a", "Hi", f"Well: {secret}")]), tasks).to_pylist()
    assert (leak["suite"], leak["kind"], leak["evaluation_excerpt"]) == ("lamps", "reference answer", secret)


def test_a_line_with_a_slip_is_named(home):
    home.suites.mkdir(parents=True)
    (home.suites / "lamps.jsonl").write_text('{"task_id": "1", "text": "Why?"}\n{"task_id": "2", "prompt": "Why?"}\n')
    with pytest.raises(FlywheelError, match=r"lamps.jsonl, line 2: .*A task may say: task_id, text"):
        audited(home)


def test_a_broken_report_is_no_reason_to_look_away(home):
    artifacts.write_bytes(home.reports / "a" / "report.json", b"{}")
    with pytest.raises(FlywheelError, match="is no report"):
        audited(home)
