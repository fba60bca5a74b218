"""InterCode episodes as trajectories."""

from typing import Any

import pytest

from flywheel.capture.importers.records import Bad, Record
from flywheel_tests.capture.importers.conftest import Read

EPISODE: dict[str, Any] = {
    "environment": "ic_sql",
    "dataset": "./data/spider/dev_spider.json",
    "task_id": 3,
    "query": "How many heads?",
    "turn_history": {
        "actions": ["SELECT 1", "SELECT count(*) FROM head", "SELECT 2"],
        "observations": ["Error executing query: no", "[(5,)]", [[2]]],
        "rewards": [0, 1.0, 0.25],
        "valid_action": [False, True, True],
    },
    "summary": {"max_reward": 1.0, "max_reward_idx": 1, "turns_taken": 3, "turns_max": 3},
    "hardness": "easy",
    "info": {"eval_obs": "GOLD"},
}


def made(read: Read, **changes: Any) -> Record:
    [record] = read({"3": EPISODE | changes}, "gpt-4.json")
    assert isinstance(record, Record), record
    return record


def test_a_turn_is_a_call_of_the_one_tool_and_its_result(read: Read) -> None:
    t = made(read).trajectory
    assert (t.task_id, t.task_type, t.agent) == ("intercode-sql-dev_spider-3", "intercode/sql", "gpt-4")
    assert [(s.role, s.content, s.is_error) for s in t.steps] == [
        ("user", "How many heads?", None),
        ("assistant", None, None),
        ("tool", "Error executing query: no", True),
        ("assistant", None, None),
        ("tool", "[(5,)]", False),
        ("assistant", None, None),
        ("tool", "[[2]]", False),
    ]
    call = t.steps[3].tool_calls[0]
    assert (call.id, call.name, call.arguments) == ("call_1", "sql", '{"query":"SELECT count(*) FROM head"}')
    assert t.steps[4].tool_call_id == "call_1"
    assert '"name":"sql"' in t.tools
    assert t.end_state == "partial"  # out of turns, and the last answer was not right
    assert "GOLD" not in repr(t)


def test_each_reward_belongs_to_its_action_and_the_last_one_to_the_whole(read: Read) -> None:
    assert [(o.signal, o.step_index, o.value) for o in made(read).outcomes] == [
        ("reward", 1, 0.0),
        ("reward", 3, 1.0),
        ("reward", 5, 0.25),
        ("reward", None, 0.25),
        ("max_reward", None, 1.0),
    ]


def test_thoughts_are_reasoning(read: Read) -> None:
    t = made(read, turn_history=EPISODE["turn_history"] | {"thoughts": ["hm", None, "so"]}).trajectory
    assert [t.steps[i].reasoning for i in (1, 3, 5)] == ["hm", None, "so"]


def test_ragged_turns_are_bad_and_say_how(read: Read) -> None:
    [bad] = read([EPISODE | {"turn_history": EPISODE["turn_history"] | {"observations": ["x"]}}])
    assert isinstance(bad, Bad)
    assert "do not line up: 3 actions, 1 observations, 3 rewards" in bad.error


def test_two_models_that_did_the_same_are_two_trajectories(read: Read) -> None:
    [[one], [other]] = read([EPISODE], "gpt-4.json"), read([EPISODE], "vicuna.json")
    assert isinstance(one, Record)
    assert isinstance(other, Record)
    assert one.trajectory.id != other.trajectory.id
    assert one.trajectory.task_id == other.trajectory.task_id


@pytest.mark.parametrize("logs", [[EPISODE], {"3": EPISODE}])
def test_logs_beside_a_meta(read: Read, logs: Any) -> None:
    [record] = read({"meta": {"model": "x"}, "logs": logs}, "gpt-4.json")
    assert isinstance(record, Record)
    assert record.trajectory.id == made(read).trajectory.id
