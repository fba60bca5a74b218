"""SWE-agent runs as trajectories."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture import workspaces
from flywheel.capture.importers.records import Bad, Record
from flywheel.capture.ingest import ingest
from flywheel.schema import Step, ToolCall
from flywheel.settings import Home
from flywheel_tests.capture.importers.conftest import Read

CALL = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
RUN: dict[str, Any] = {
    "trajectory": [
        {"action": "ls", "observation": "a.py", "response": "I look.", "thought": "I look.", "state": {"cwd": "/"}},
    ],
    "history": [
        {"role": "system", "content": "Fix it.", "agent": "main", "message_type": "system_prompt"},
        {"role": "user", "content": [{"type": "text", "text": "Bug."}], "agent": "main", "is_demo": True},
        {
            "role": "assistant",
            "content": "I look.",
            "thought": "I look.",
            "action": "ls",
            "tool_calls": [CALL],
            "thinking_blocks": [{"type": "thinking", "thinking": "Where?", "signature": "S"}],
        },
        {"role": "tool", "content": [{"type": "text", "text": "a.py"}], "tool_call_ids": ["c"]},
    ],
    "info": {
        "exit_status": "submitted",
        "submission": "diff --git",
        "model_stats": {"api_calls": 1, "instance_cost": 0.1},
        "swe_agent_version": "1.1.0",
    },
    "replay_config": json.dumps({"agent": {"model": {"name": "openai/gpt-x"}}, "problem_statement": {"patch": "GOLD"}}),
    "environment": "swe_main",
}


def made(read: Read, run: dict[str, Any], name: str = "django-1.traj") -> Record:
    [record] = read(run, name)
    assert isinstance(record, Record), record
    return record


def test_a_run_is_what_the_model_saw_and_did(read: Read) -> None:
    record = made(read, RUN)
    t = record.trajectory
    assert t.steps == (
        Step(role="system", content="Fix it.", metadata='{"agent":"main","message_type":"system_prompt"}'),
        Step(role="user", content="Bug.", metadata='{"agent":"main","is_demo":true}'),
        Step(
            role="assistant",
            content="I look.",
            reasoning="Where?",
            tool_calls=(ToolCall(id="c", name="bash", arguments='{"command": "ls"}'),),
        ),
        Step(role="tool", content="a.py", tool_call_id="c", tool_name="bash"),
    )
    assert (t.task_id, t.task_type, t.agent, t.agent_version) == (
        "swe-agent-django-1",
        "swe-agent",
        "swe-agent",
        "1.1.0",
    )
    assert (t.provider, t.model, t.end_state) == ("openai", "gpt-x", "completed")
    about = json.loads(t.metadata)
    assert (about["exit_status"], about["submission"]) == ("submitted", "diff --git")
    assert about["model_stats"] == {"api_calls": 1, "instance_cost": 0.1}
    assert record.outcomes == ()  # to submit is not to succeed
    assert "GOLD" not in repr(record)


def test_a_verdict_is_an_outcome_where_the_run_has_one(read: Read) -> None:
    record = made(read, RUN | {"info": {"exit_status": "submitted", "resolved": False, "reward": 0.25}})
    assert [(o.signal, o.value) for o in record.outcomes] == [("reward", 0.25), ("resolved", 0.0)]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("submitted", "completed"),
        ("submitted (exit_cost)", "partial"),
        ("exit_context", "partial"),
        ("exit_format", "failed"),
        (None, "failed"),
    ],
)
def test_how_it_ended(read: Read, status: str | None, state: str) -> None:
    assert made(read, RUN | {"info": {"exit_status": status}}).trajectory.end_state == state


def test_a_run_without_a_history_is_its_turns(read: Read) -> None:
    t = made(read, {"trajectory": RUN["trajectory"], "info": {}}).trajectory
    assert [(step.role, step.content) for step in t.steps] == [("assistant", "I look."), ("user", "a.py")]


def test_every_attempt_is_a_trajectory_of_the_same_task(read: Read) -> None:
    other = RUN | {"info": {"exit_status": "exit_cost"}}
    records = read({"attempts": [RUN, other], **RUN}, "django-1.traj")
    states = [r.trajectory.end_state for r in records if isinstance(r, Record)]
    assert states == ["completed", "partial"]
    assert len({r.trajectory.task_id for r in records if isinstance(r, Record)}) == 1


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ({"history": None, "trajectory": []}, "no history and no turns"),
        ({"history": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"history": [{"role": "tool", "content": "x", "tool_call_ids": 3}]}, "tool_call_ids"),
        ({"history": [{"role": "assistant", "content": "x", "thinking_blocks": ["x"]}]}, "thinking_blocks"),
    ],
)
def test_a_bad_run_is_told(read: Read, broken: dict[str, Any], error: str) -> None:
    [bad] = read(RUN | broken, "x.traj")
    assert isinstance(bad, Bad)
    assert error in bad.error


def test_traj_files_are_taken_from_a_folder(home: Home, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "django-1.traj").write_text(json.dumps(RUN))
    (runs / "django-1.log").write_text("not a run")
    workspaces.create(home, "desk")
    total = ingest(home, [runs], "desk").total
    assert (total.added, total.steps, total.tool_calls, total.quarantined) == (1, 4, 1, 0)
