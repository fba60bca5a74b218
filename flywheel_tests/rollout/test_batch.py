"""Batch runs: every cell once, whatever happens in between; what fails says why, and the others go on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel import environments, warehouse
from flywheel.capture import workspaces
from flywheel.capture.settling.settle import settle
from flywheel.environments.agents import REFERENCE, ScriptedAgent
from flywheel.environments.habits import captured
from flywheel.environments.protocol import Act, Situation
from flywheel.rollout import batch, prompts
from flywheel.rollout.cells import Player, Rules, Work, tool_stats
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError, Step, ToolCall
from flywheel.settings import Home
from flywheel_tests.conftest import ROOT

LATER = datetime(2030, 1, 1, tzinfo=UTC)
RULES = Rules(samples=2)


@pytest.fixture
def trials(home: Home) -> Home:
    workspaces.create(home, "trials")
    return home


def desk(tasks: int = 5, split: Any = "train") -> Work:
    place = environments.get("desk")
    return Work(environment=place, tasks=tuple(place.tasks(split, tasks, 0)), split=split, seed=0)


def player(agent: Any, **how: Any) -> Player:
    return Player(actor=agent, model="m", provider="p", **how)


BOT = player(captured("desk-bot", "2.0"))


def stored(home: Home) -> list[dict[str, Any]]:
    settle(home, "trials", LATER)
    rows = warehouse.read(home.captures, TRAJECTORIES, "trials").to_pylist()
    return sorted(rows, key=lambda row: (row["agent"], row["task_id"], row["metadata"]))


def ledger(home: Home) -> list[tuple[Any, ...]]:
    rows = warehouse.read(home.outcomes, OUTCOMES, "trials").to_pylist()
    return sorted((row["signal"], row["value"], row["source"], row["checker_version"]) for row in rows)


class Broken(ScriptedAgent):
    """The reference, until a task that it cannot take, in its second turn."""

    def __init__(self, group: str) -> None:
        self.__dict__ |= REFERENCE.__dict__
        self.name, self.group = "broken", group

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        if any(s.task.group == self.group and len(s.steps) > 2 for s in situations):
            raise ConnectionError("the server went away, said ann@x.org")
        return super().act(situations, n=n, temperature=temperature, seed=seed)


def test_episodes_are_captured_with_all_that_is_known_of_them(trials: Home) -> None:
    report = batch.run(trials, "trials", [desk(2, "heldout")], [player(REFERENCE), BOT], RULES)
    assert (report.cells, report.played, report.already_there) == (8, 8, 0)
    rows = stored(trials)
    assert len(rows) == 8
    row = next(row for row in rows if row["agent"] == "reference")
    task = desk(2, "heldout").tasks[0]
    assert (row["task_id"], row["task_group"], row["task_type"]) == (task.id, task.group, "desk")
    assert (row["agent_version"], row["model"], row["provider"], row["source"]) == ("1.0", "m", "p", "run")
    about = json.loads(row["metadata"])
    assert about["split"] == "heldout"
    assert {name: about[name] for name in ("sample", "attempt", "seed", "temperature", "toolsets")} == {
        "sample": 0, "attempt": 0, "seed": 0, "temperature": 1.0, "toolsets": ["desk"],
    }  # fmt: skip
    told = ledger(trials)
    assert told[-4:] == [("reward", 1.0, "environment", "1")] * 4
    assert {signal for signal, *_ in told} == {"checker", "checker_credit", "reward"} and len(told) == 24
    assert report.policies[0].success == 1.0


def test_a_run_that_is_repeated_plays_nothing_and_a_larger_one_what_is_missing(trials: Home) -> None:
    first = batch.run(trials, "trials", [desk()], [BOT], RULES)
    again = batch.run(trials, "trials", [desk()], [BOT], RULES)
    assert (again.played, again.already_there) == (0, 10)
    assert (again.policies, again.tools) == (first.policies, first.tools)
    stored(trials)
    more = batch.run(trials, "trials", [desk(6)], [BOT, player(REFERENCE)], Rules(samples=3))
    assert (more.cells, more.played) == (36, 26)
    assert len(stored(trials)) == 36


def test_samples_of_a_task_differ_and_are_the_same_in_every_run(trials: Home, tmp_path: Path) -> None:
    batch.run(trials, "trials", [desk(3)], [BOT], Rules(samples=8))
    other = Home(tmp_path / "other")
    workspaces.create(other, "trials")
    batch.run(other, "trials", [desk(3)], [BOT], Rules(samples=8), concurrency=1)
    one, two = ({row["id"]: row["content_digest"] for row in stored(home)} for home in (trials, other))
    assert one == two
    assert len(set(one.values())) > 3


def test_an_actor_that_raises_fails_its_cell_and_the_others_go_on(trials: Home) -> None:
    work = desk(8)
    broken = player(Broken(work.tasks[0].group), rows=4, shared=False)
    ended = [task for task in work.tasks if task.group == work.tasks[0].group]
    report = batch.run(trials, "trials", [work], [broken], Rules())
    assert {failure.task for failure in report.failures} == {task.id for task in ended}
    assert report.policies[0].completed == 8 - len(ended)
    rows = {row["task_id"]: row for row in stored(trials)}
    failed = rows[ended[0].id]
    assert failed["end_state"] == "failed"
    assert [step["role"] for step in failed["steps"]] == ["system", "user", "assistant", "tool"]
    assert json.loads(failed["metadata"])["error"] == "ConnectionError: the server went away, said <EMAIL>"
    assert len(ledger(trials)) == 3 * (8 - len(ended)), "what failed was not judged"

    assert batch.run(trials, "trials", [work], [broken], Rules()).played == 0
    broken.actor.group = "mended"
    retried = batch.run(trials, "trials", [work], [broken], Rules(), retry_failed=True)
    assert (retried.played, retried.failures) == (len(ended), [])
    assert len(stored(trials)) == 8 + len(ended)
    assert batch.run(trials, "trials", [work], [broken], Rules(), retry_failed=True).played == 0


def test_tools_are_counted_by_success() -> None:
    steps = [
        Step(role="assistant", tool_calls=(ToolCall(id="1", name="b", arguments="{}"),)),
        Step(role="tool", tool_name="b", content="no", is_error=True),
        Step(role="tool", tool_name="b", content="yes", is_error=False),
        Step(role="tool", tool_name="a", content="yes"),
    ]
    assert tool_stats(steps) == {
        "a": {"count": 1, "success": 1, "failure": 0},
        "b": {"count": 2, "success": 1, "failure": 1},
    }


def test_an_episode_that_does_not_end_is_partial_and_judged_as_it_stands(trials: Home) -> None:
    report = batch.run(trials, "trials", [desk(3)], [player(REFERENCE)], Rules(max_turns=1))
    assert (report.policies[0].partial, report.policies[0].success) == (3, 0.0)
    assert {row["end_state"] for row in stored(trials)} == {"partial"}


def test_prompts_of_a_file_are_answered_and_not_judged(trials: Home, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "Who are you?"}\n\n{"prompt": "Why?", "system": "Be brief.", "id": "why", "group": "g"}\n'
    )
    place = prompts.load(path)

    class Parrot:
        name, version = "parrot", "1"

        def act(self, situations: Sequence[Situation], **_: Any) -> list[list[Act]]:
            return [[Act(step=Step(role="assistant", content=s.steps[-1].content))] for s in situations]

    work = Work(environment=place, tasks=tuple(place.tasks("train", 9, 0)), split="train", seed=0)
    report = batch.run(trials, "trials", [work], [player(Parrot())], Rules())
    assert (report.played, report.policies[0].success) == (2, None)
    rows = {row["task_group"]: [step["content"] for step in row["steps"]] for row in stored(trials)}
    assert rows.pop("g") == ["Be brief.", "Why?", "Why?"]
    assert list(rows.values()) == [["Who are you?", "Who are you?"]]
    assert ledger(trials) == []
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(FlywheelError, match="line 2, is no prompt"):
        prompts.load(path)


def test_what_cannot_be_run_says_why(trials: Home) -> None:
    with pytest.raises(FlywheelError, match="nothing to run"):
        batch.run(trials, "trials", [desk()], [], RULES)
    with pytest.raises(FlywheelError, match="named twice"):
        batch.run(trials, "trials", [desk()], [BOT, player(captured("desk-bot", "2.0"))], RULES)


@pytest.mark.slow  # several processes are started and killed
def test_a_run_that_is_killed_at_any_moment_is_gone_on_with(trials: Home) -> None:
    dice = random.Random(3)
    code = "from flywheel.cli import main; main()"
    words = ["run", "-w", "trials", "--policy", "desk-bot@2.0", "--tasks", "600", "--n", "2", "--env", "desk", "--json"]
    command = [sys.executable, "-c", code, *words]
    environment = os.environ | {"FLYWHEEL_HOME": str(trials.root)}
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        journals = trials.journals / "trials"
        before = sum(path.stat().st_size for path in journals.glob("*.jsonl")) if journals.exists() else 0
        while process.poll() is None and (
            not journals.exists() or sum(path.stat().st_size for path in journals.glob("*.jsonl")) == before
        ):
            time.sleep(0.01)
        time.sleep(0.2 * dice.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["cells"] == 1200
    assert 0 < report["already_there"] < 1200
    rows = stored(trials)
    assert len(rows) == len({row["id"] for row in rows}) == 1200
    assert all(row["end_state"] in ("completed", "partial") for row in rows)
    judged = {r["trajectory_id"] for r in warehouse.read(trials.outcomes, OUTCOMES, "trials").to_pylist()}
    assert judged >= {row["id"] for row in rows}
