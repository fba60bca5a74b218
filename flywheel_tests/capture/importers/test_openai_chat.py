"""OpenAI chat lines as trajectories."""

import json
from typing import Any

import pytest

from flywheel.capture.importers.records import Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import Read


def made(read: Read, **line: Any) -> Record:
    [record] = read([line], "chats.jsonl")
    assert isinstance(record, Record), record
    return record


def test_tool_calls_results_and_tools_are_kept(read: Read) -> None:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    record = made(
        read,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Oslo"}, {"type": "text", "text": "today?"}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Look it up.",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": function},
                    {"id": "2", "type": "function", "function": function | {"arguments": {"city": "Bergen"}}},
                ],
            },
            {"role": "tool", "tool_call_id": "2", "content": "rain"},
            {"role": "tool", "tool_call_id": "1", "content": "sun"},
            {"role": "assistant", "content": "Sun.", "refusal": None, "weight": 1},
        ],
        tools=tools,
        model="gpt-4o",
    )
    t = record.trajectory
    assert t.steps == (
        Step(role="system", content="Be brief.", metadata='{"role":"developer"}'),
        Step(role="user", content="Oslo\ntoday?"),
        Step(
            role="assistant",
            reasoning="Look it up.",
            tool_calls=(
                ToolCall(id="1", name="weather", arguments='{"city": "Oslo"}'),
                ToolCall(id="2", name="weather", arguments='{"city":"Bergen"}'),
            ),
        ),
        Step(role="tool", content="rain", tool_call_id="2", tool_name="weather"),
        Step(role="tool", content="sun", tool_call_id="1", tool_name="weather"),
        Step(role="assistant", content="Sun.", metadata='{"weight":1}'),
    )
    assert json.loads(t.tools) == tools
    assert (t.agent, t.model, t.task_type, t.end_state) == ("gpt-4o", "gpt-4o", "chat", "completed")
    assert record.outcomes == ()  # unlabelled is not success


def test_functions_of_yesterday(read: Read) -> None:
    t = made(
        read,
        messages=[
            {"role": "user", "content": "Oslo?"},
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
            {"role": "function", "name": "weather", "content": "sun"},
        ],
        functions=[{"name": "weather"}],
    ).trajectory
    assert t.steps[1].tool_calls == (ToolCall(id="call_0", name="weather", arguments="{}"),)
    assert (t.steps[2].role, t.steps[2].tool_call_id, t.steps[2].tool_name) == ("tool", "call_0", "weather")
    assert json.loads(t.tools) == [{"type": "function", "function": {"name": "weather"}}]
    assert t.end_state == "partial"


def test_a_picture_stays_beside_the_text(read: Read) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:..."}}]
    step = made(read, messages=[{"role": "user", "content": parts}]).trajectory.steps[0]
    assert step.content == "What is it?"
    assert json.loads(step.metadata) == {"parts": parts}


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    ("line", "signals"),
    [
        ({}, {}),
        ({"reward": 0.5}, {"reward": 0.5}),
        ({"success": False}, {"success": 0.0}),
        ({"reward": 0, "success": True}, {"reward": 0.0, "success": 1.0}),
    ],
)
def test_labels(read: Read, line: dict[str, Any], signals: dict[str, float]) -> None:
    assert {o.signal: o.value for o in made(read, messages=CHAT, **line).outcomes} == signals


def test_what_a_line_says_of_its_task_and_what_it_must_not_carry(read: Read) -> None:
    t = made(
        read,
        messages=CHAT,
        id="x1",
        task_id=9,
        task_type="support",
        metadata={"task_group": "refunds", "gold": "GOLD", "lang": "en", "model": "m"},
    ).trajectory
    assert (t.task_id, t.task_group, t.task_type, t.model) == ("9", "refunds", "support", "m")
    about = json.loads(t.metadata)
    assert (about["source_id"], about["lang"]) == ("x1", "en")
    assert "GOLD" not in repr(t)


def test_conversations_that_open_alike_have_one_task(read: Read) -> None:
    other = [CHAT[0], {"role": "assistant", "content": "What?"}]
    same, alike, unlike = (made(read, messages=m).trajectory.task_id for m in (CHAT, other, CHAT[1:]))
    assert same == alike != unlike


def test_what_has_no_place_of_its_own_goes_to_the_metadata_but_no_answer_does(read: Read) -> None:
    said = [{"role": "user", "content": "Oslo?"}, {"role": "assistant", "content": "Sun."}]
    record = made(
        read, messages=said, lang="en", info={"exit_status": "submitted"}, answer="Sun.", metadata={"split": "a"}
    )

    about = json.loads(record.trajectory.metadata)
    assert (about["lang"], about["info"], about["split"]) == ("en", {"exit_status": "submitted"}, "a")
    assert "answer" not in about
