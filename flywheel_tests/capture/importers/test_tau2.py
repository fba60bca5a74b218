"""tau2 simulations as trajectories."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture.importers import tau2
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import FlywheelError, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

SIMULATION: dict[str, Any] = {
    "id": "s-1",
    "task_id": "11",
    "trial": 0,
    "seed": 5,
    "start_time": "2025-10-05T22:50:18.5",
    "end_time": "2025-10-05T22:51:00",
    "termination_reason": "user_stop",
    "reward_info": {
        "reward": 0.0,
        "db_check": {"db_match": False, "db_reward": 0.0},
        "action_checks": [
            {"action": {"name": "GOLD"}, "action_match": True, "action_reward": 1.0},
            {"action": {"name": "GOLD"}, "action_match": False, "action_reward": 0.0},
        ],
        "communicate_checks": [{"info": "GOLD", "met": True, "justification": "GOLD"}],
        "nl_assertions": None,
    },
    "messages": [
        {"role": "assistant", "content": "Hi!", "timestamp": "2025-10-05T22:50:19", "cost": 0.0},
        {"role": "user", "content": "Cancel."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c", "name": "cancel", "arguments": {"b": 1.50, "a": "ü"}, "requestor": "assistant"},
                {"id": "c", "name": "look", "arguments": {}, "requestor": "assistant"},
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 9},
            "cost": 0.01,
            "raw_data": {"finish_reason": "tool_calls", "message": {"reasoning_content": "They want out."}},
        },
        {"role": "tool", "id": "c", "content": "Error: no", "error": True, "requestor": "assistant"},
        {"role": "tool", "id": "c", "content": "seen", "error": False, "requestor": "assistant"},
    ],
}


def results(*simulations: dict[str, Any], policy: str = "Be kind.") -> dict[str, Any]:
    return {
        "timestamp": "2025-10-05T22:50:14",
        "info": {
            "git_commit": "d003",
            "user_info": {"llm": "u"},
            "agent_info": {"implementation": "llm_agent", "llm": "xai/grok-3"},
            "environment_info": {"domain_name": "airline", "policy": policy, "tool_defs": None},
        },
        "tasks": [{"id": "11", "evaluation_criteria": {"actions": [{"name": "GOLD"}]}}],
        "simulations": list(simulations),
    }


def test_a_simulation_is_a_trajectory_under_its_policy(read: Read) -> None:
    [record] = read(results(SIMULATION))
    assert isinstance(record, Record)
    t = record.trajectory
    assert (t.task_id, t.task_type) == ("tau2-airline-11", "tau2/airline")
    assert (t.agent, t.agent_version, t.provider, t.model) == ("llm_agent", "d003", "xai", "grok-3")
    assert t.started_at == datetime(2025, 10, 5, 22, 50, 18, 500_000, UTC)
    assert [(s.role, s.content) for s in t.steps[:2]] == [("system", "Be kind."), ("assistant", "Hi!")]
    act = t.steps[3]
    assert act.tool_calls == (
        ToolCall(id="c", name="cancel", arguments='{"b":1.5,"a":"ü"}'),
        ToolCall(id="c#2", name="look", arguments="{}"),
    )
    assert (act.reasoning, act.prompt_tokens, act.completion_tokens) == ("They want out.", 100, 9)
    assert act.metadata == '{"cost":0.01,"finish_reason":"tool_calls"}'
    assert [(s.tool_call_id, s.tool_name, s.is_error) for s in t.steps[4:]] == [
        ("c", "cancel", True),
        ("c#2", "look", False),
    ]


def test_checks_are_outcomes_of_the_checker_that_gave_them_and_references_are_nowhere(read: Read) -> None:
    [record] = read(results(SIMULATION))
    assert isinstance(record, Record)
    assert {o.signal: o.value for o in record.outcomes} == {
        "reward": 0.0,
        "db_check": 0.0,
        "action_checks": 0.5,
        "communicate_checks": 1.0,
    }
    assert {(o.checker_version, o.observed_at) for o in record.outcomes} == {
        ("d003", datetime(2025, 10, 5, 22, 51, tzinfo=UTC))
    }
    assert "GOLD" not in repr(record)


def test_the_same_simulation_under_another_policy_is_another_trajectory_of_the_same_task(read: Read) -> None:
    [one], [other] = read(results(SIMULATION)), read(results(SIMULATION, policy="Be strict."))
    assert isinstance(one, Record)
    assert isinstance(other, Record)
    assert one.trajectory.task_id == other.trajectory.task_id
    assert one.trajectory.id != other.trajectory.id


@pytest.mark.parametrize(
    ("reason", "state"),
    [("agent_stop", "completed"), ("max_steps", "partial"), ("too_many_errors", "failed"), (None, "failed")],
)
def test_how_it_ended(read: Read, reason: str | None, state: str) -> None:
    [record] = read(results(SIMULATION | {"termination_reason": reason}))
    assert isinstance(record, Record)
    assert record.trajectory.end_state == state


def test_no_simulations_no_verdicts_and_a_bad_one(read: Read) -> None:
    assert read(results()) == []
    [unlabelled, bad] = read(results(SIMULATION | {"reward_info": None}, {"id": "x"}))
    assert isinstance(unlabelled, Record)
    assert unlabelled.outcomes == ()
    assert isinstance(bad, Bad)
    assert "missing required field `task_id`" in bad.error


def test_a_file_that_breaks_off_keeps_what_stands_before(read: Read, tmp_path: Path) -> None:
    read(results(SIMULATION, SIMULATION | {"id": "s-2"}), "whole.json")
    whole = (tmp_path / "results" / "whole.json").read_bytes()
    cut = tmp_path / "cut.json"
    cut.write_bytes(whole[:-100])
    assert [type(record) for record in tau2.read(cut, "desk", NOW)] == [Record, Bad]
    cut.write_bytes(whole[:50])
    with pytest.raises(FlywheelError, match="not a whole tau2 file"):
        list(tau2.read(cut, "desk", NOW))
