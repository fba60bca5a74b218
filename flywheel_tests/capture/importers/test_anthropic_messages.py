"""Anthropic conversations as trajectories."""

import json
from typing import Any

import pytest

from flywheel.capture.importers import anthropic_messages, importer_of, openai_chat
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

LINE: dict[str, Any] = {
    "id": "msg-1",
    "model": "claude-x",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [
        {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "required": ["city"]}}
    ],
    "messages": [
        {"role": "user", "content": "Oslo and Bergen?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Ask for both.", "signature": "S"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Bergen"}},
            ],
            "usage": {"input_tokens": 10, "output_tokens": 5},
            "stop_reason": "tool_use",
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "a", "content": "down", "is_error": True},
                {"type": "text", "text": "Well?"},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Rain."}],
        },
    ],
}


def made(read: Read, line: dict[str, Any]) -> Record:
    [record] = read([line], "chats.jsonl")
    assert isinstance(record, Record), record
    return record


def test_blocks_are_steps(read: Read) -> None:
    record = made(read, LINE)
    t = record.trajectory
    assert t.steps == (
        Step(role="system", content="Be brief."),
        Step(role="user", content="Oslo and Bergen?"),
        Step(
            role="assistant",
            content="I look.",
            reasoning="Ask for both.",
            tool_calls=(
                ToolCall(id="a", name="weather", arguments='{"city":"Oslo"}'),
                ToolCall(id="b", name="weather", arguments='{"city":"Bergen"}'),
            ),
            prompt_tokens=10,
            completion_tokens=5,
            metadata='{"stop_reason":"tool_use"}',
        ),
        Step(role="tool", content="rain", tool_call_id="b", tool_name="weather"),
        Step(role="tool", content="down", tool_call_id="a", tool_name="weather", is_error=True),
        Step(role="user", content="Well?"),
        Step(role="assistant", content="Rain.", metadata='{"parts":[{"data":"x","type":"redacted_thinking"}]}'),
    )
    assert json.loads(t.tools) == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells it.",
                "parameters": {"type": "object", "required": ["city"]},
            },
        }
    ]
    assert (t.agent, t.model, t.provider, t.end_state) == ("claude-x", "claude-x", "anthropic", "completed")
    assert json.loads(t.metadata)["source_id"] == "msg-1"
    assert record.outcomes == ()  # unlabelled is not success


def test_labels_are_outcomes_and_references_are_nowhere(read: Read) -> None:
    record = made(read, LINE | {"reward": 0.5, "success": False, "metadata": {"gold": "GOLD", "task_id": "w"}})
    assert {o.signal: o.value for o in record.outcomes} == {"reward": 0.5, "success": 0.0}
    assert record.trajectory.task_id == "w"
    assert "GOLD" not in repr(record)


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
CALLED = [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "x", "input": {}}]}]
OPENAI_CALL = {"id": "1", "type": "function", "function": {"name": "tool_use", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("lines", "mine"),
    [
        ([{"messages": CHAT}], False),  # could be either: the more common
        ([{"messages": CHAT, "system": "Be brief."}], True),
        ([{"messages": CHAT}, {"messages": CALLED}], True),
        ([{"messages": CHAT, "tools": [{"name": "x", "input_schema": {}}]}], True),
        ([{"messages": [{"role": "system", "content": "Be brief."}, *CHAT]}], False),
        ([{"messages": [{"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}]}], False),
        ([{"messages": CHAT, "tools": [{"type": "function", "function": {"name": "input_schema"}}]}], False),
        ([{"messages": 1, "tools": 2, "system": "x"}], False),
    ],
)
def test_whose_a_file_is(tmp_path: Any, lines: list[dict[str, Any]], mine: bool) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert importer_of(path) is (anthropic_messages if mine else openai_chat)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("alone", [False, True])
def test_lists_and_records_over_several_lines(tmp_path: Any, indent: int | None, alone: bool) -> None:
    one = {"messages": CHAT}
    path = tmp_path / "chats.json"
    for importer, record in ((openai_chat, one), (anthropic_messages, one | {"system": "Be brief."})):
        path.write_text(json.dumps(record if alone else [record] * 2, indent=indent))
        found = list(importer_of(path).read(path, "desk", NOW))

        assert importer_of(path) is importer
        assert [isinstance(each, Record) for each in found] == [True] * (1 if alone else 2)


def test_a_first_record_longer_than_the_head_is_looked_at_whole(tmp_path: Any) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "x" * 2**19}, *CALLED]}))

    assert importer_of(path) is anthropic_messages


def test_a_line_longer_than_the_head_is_known_by_its_marks() -> None:
    assert anthropic_messages.detect(b'{"tools":[{"input_schema":{}}],"messages":[{"role":"us')
    assert not anthropic_messages.detect(b'{"messages":[{"role":"user","content":"xxx')


def test_a_bad_line_costs_no_other(read: Read) -> None:
    good, empty, block, role = read(
        [
            LINE,
            {"messages": []},
            {"messages": [{"role": "user", "content": [{"text": "no type"}]}]},
            {"messages": [{"role": "robot", "content": "x"}]},
        ],
        "chats.jsonl",
    )
    assert isinstance(good, Record)
    assert isinstance(empty, Bad)
    assert empty.error == "record 2: the conversation has no messages"
    assert isinstance(block, Bad)
    assert "missing required field `type`" in block.error
    assert isinstance(role, Bad)
    assert role.line == 4
