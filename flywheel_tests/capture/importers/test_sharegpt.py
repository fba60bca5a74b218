"""ShareGPT conversations as trajectories."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

CHAT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def made(read: Read, **row: Any) -> Record:
    [record] = read([row])
    assert isinstance(record, Record), record
    return record


def refused(read: Read, *turns: Any) -> str:
    [first, bad, last] = read([{"conversations": CHAT}, {"conversations": turns}, {"conversations": CHAT}])
    assert isinstance(first, Record) and isinstance(bad, Bad) and isinstance(last, Record)
    return bad.error


def test_a_conversation(read: Read) -> None:
    record = made(read, id="x1", conversations=CHAT, lang="en")
    t = record.trajectory
    assert t.steps == (Step(role="user", content="Hi"), Step(role="assistant", content="Hello"))
    assert (t.agent, t.model, t.task_type, t.end_state) == ("unknown", "", "chat", "completed")
    about = json.loads(t.metadata)
    assert (about["source_id"], about["lang"]) == ("x1", "en")
    assert record.outcomes == ()  # unlabelled is not success


def test_calls_results_and_tools(read: Read) -> None:
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    t = made(
        read,
        system="Be brief.",
        tools=json.dumps([{"name": "weather", "parameters": {"type": "object"}}]),
        conversations=[
            {"from": "human", "value": "Oslo?"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "sun"},
            {"from": "function_call", "value": [call, call]},
            {"from": "tool", "value": {"sky": "grey"}},
            {"from": "tool", "value": "rain"},
            {"from": "gpt", "value": "Sun.", "weight": 1},
        ],
    ).trajectory
    assert t.steps == (
        Step(role="system", content="Be brief."),
        Step(role="user", content="Oslo?"),
        Step(role="assistant", tool_calls=(ToolCall(id="call_0", name="weather", arguments='{"city":"Oslo"}'),)),
        Step(role="tool", content="sun", tool_call_id="call_0", tool_name="weather"),
        Step(
            role="assistant",
            tool_calls=(
                ToolCall(id="call_1", name="weather", arguments='{"city":"Oslo"}'),
                ToolCall(id="call_2", name="weather", arguments='{"city":"Oslo"}'),
            ),
        ),
        Step(role="tool", content='{"sky":"grey"}', tool_call_id="call_1", tool_name="weather"),
        Step(role="tool", content="rain", tool_call_id="call_2", tool_name="weather"),
        Step(role="assistant", content="Sun.", metadata='{"weight":1}'),
    )
    assert json.loads(t.tools) == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]


def test_labels_are_outcomes_and_answers_stay_out(read: Read) -> None:
    record = made(read, conversations=CHAT, reward=0.5, success=False, answer="GOLD")
    assert {o.signal: o.value for o in record.outcomes} == {"reward": 0.5, "success": 0.0}
    assert "GOLD" not in repr(record.trajectory)


@pytest.mark.parametrize("value", ["", None])
def test_a_turn_that_the_export_lost_is_kept_empty(read: Read, value: str | None) -> None:
    t = made(read, conversations=[CHAT[0], {"from": "gpt", "value": value}, *CHAT]).trajectory
    assert [step.content for step in t.steps] == ["Hi", value, "Hi", "Hello"]


def test_what_is_no_conversation_is_set_aside_and_says_why(read: Read) -> None:
    assert "has no turns" in refused(read)
    assert "turn 1 is from 'oracle', none of system, human" in refused(read, CHAT[0], {"from": "oracle", "value": "x"})
    assert "missing required field `from`" in refused(read, {"value": "x"})
    assert "Expected `object`, got `null`" in refused(read, CHAT[0], None)
    assert "function_call of turn 0 is not a name with arguments" in refused(
        read, {"from": "function_call", "value": "weather(Oslo)"}
    )


def test_lines_and_one_object_alone(read: Read) -> None:
    row = {"conversations": CHAT}
    listed, lined, alone = read([row]), read([row], "x.jsonl"), read(row)
    assert [r.trajectory.id for r in (*listed, *lined, *alone) if isinstance(r, Record)] == [
        listed[0].trajectory.id
    ] * 3


def test_real_files(shared_data: Path) -> None:
    whole = shared_data / "sharegpt" / "sharegpt_conversation.axolotl.json"
    missing = shared_data / "sharegpt" / "sharegpt_missingturns.axolotl.json"
    for path, lost in ((whole, 0), (missing, 1)):
        importer = importer_of(path)
        [record] = importer.read(path, "desk", NOW)
        assert importer.NAME == "sharegpt" and isinstance(record, Record)
        turns = json.loads(path.read_bytes())["conversations"]
        assert [step.content for step in record.trajectory.steps] == [turn["value"] for turn in turns]
        assert sum(not step.content for step in record.trajectory.steps) == lost
