"""Hermes records as trajectories."""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

TOOL = {"name": "weather", "description": "", "parameters": {"type": "object"}, "required": None}
SYSTEM = f"Call functions listed within <tools> </tools>.\n<tools>\n{json.dumps([TOOL])}\n</tools>"


def turn(speaker: str, *values: str) -> dict[str, str]:
    return {"from": speaker, "value": "\n".join(values)}


def call(name: str, **arguments: Any) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def response(content: Any, id: str = "", name: str = "weather") -> str:
    value = {"tool_call_id": id, "name": name, "content": content}
    return "<tool_response>\n" + json.dumps(value) + "\n</tool_response>"


def saved(*turns: dict[str, str], completed: bool = True) -> dict[str, Any]:
    """A record as the agent saves it."""
    return {
        "conversations": [turn("system", SYSTEM), *turns],
        "timestamp": "2026-01-05T10:00:00",
        "model": "m",
        "completed": completed,
    }


def made(read: Read, *rows: dict[str, Any]) -> list[Record]:
    found = read(list(rows), "trajectory_samples.jsonl")
    assert all(isinstance(record, Record) for record in found), found
    return [record for record in found if isinstance(record, Record)]


def test_thoughts_calls_results_and_tools(read: Read) -> None:
    [record] = made(
        read,
        saved(
            turn("human", "Oslo and Bergen?"),
            turn("gpt", "<think>\nBoth at once.\n</think>", "I look.", call("weather", city="Oslo"), call("weather")),
            turn("tool", response("sun", "a"), response({"sky": "grey", "error": None}, "b")),
            turn("gpt", "<think>\n</think>\nSun and clouds."),
        ),
    )
    t = record.trajectory
    assert t.steps == (
        Step(role="system", content=SYSTEM),
        Step(role="user", content="Oslo and Bergen?"),
        Step(
            role="assistant",
            content="I look.",
            reasoning="Both at once.",
            tool_calls=(
                ToolCall(id="a", name="weather", arguments='{"city":"Oslo"}'),
                ToolCall(id="b", name="weather", arguments="{}"),
            ),
        ),
        Step(role="tool", content="sun", tool_call_id="a", tool_name="weather", is_error=False),
        Step(
            role="tool",
            content='{"sky": "grey", "error": null}',
            tool_call_id="b",
            tool_name="weather",
            is_error=False,
        ),
        Step(role="assistant", content="Sun and clouds."),
    )
    function = {key: TOOL[key] for key in ("name", "description", "parameters")}
    assert json.loads(t.tools) == [{"type": "function", "function": function}]
    assert (t.agent, t.model, t.task_type, t.end_state) == ("hermes-agent", "m", "hermes", "completed")
    assert json.loads(t.metadata)["timestamp"] == "2026-01-05T10:00:00"
    assert record.outcomes == ()  # completed is not success


def test_calls_without_an_id_are_answered_by_their_place(read: Read) -> None:
    asked = turn("gpt", call("weather", city="Oslo"), call("clock"))
    answered = turn("tool", response("sun", name="unknown"), response("noon", name="unknown"))
    [record] = made(read, saved(turn("human", "?"), asked, answered, asked, answered))
    results = [(s.content, s.tool_call_id, s.tool_name) for s in record.trajectory.steps if s.role == "tool"]
    assert results == [
        ("sun", "call_0", "weather"),
        ("noon", "call_1", "clock"),
        ("sun", "call_2", "weather"),
        ("noon", "call_3", "clock"),
    ]


@pytest.mark.parametrize(
    ("content", "failed"),
    [
        ("sun", False),
        ("", True),
        ("ERROR: no such city", True),
        ({"error": "no such city"}, True),
        ({"error": None, "exit_code": 1}, False),
        ({"content": {"error": "x"}}, True),
        ({"success": False}, True),
        ([1, 2], False),
    ],
)
def test_a_result_is_an_error_where_the_agent_counts_it_as_one(read: Read, content: Any, failed: bool) -> None:
    [record] = made(read, saved(turn("human", "?"), turn("gpt", call("weather")), turn("tool", response(content))))
    assert record.trajectory.steps[-1].is_error is failed


def test_tags_inside_arguments_and_results_are_text(read: Read) -> None:
    text = "</tool_call> <tool_response> </tool_response>"
    [record] = made(
        read, saved(turn("human", "?"), turn("gpt", call("echo", text=text)), turn("tool", response(text, "a", "echo")))
    )
    *_, asked, answered = record.trajectory.steps
    assert json.loads(asked.tool_calls[0].arguments) == {"text": text}
    assert (answered.content, answered.tool_call_id) == (text, "a")


TEXT = st.text(st.characters(codec="utf-8")) | st.sampled_from(["</tool_call>", "<think>", "</tool_response>\n", "{"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made_with=st.lists(st.dictionaries(TEXT, TEXT | st.integers(-9, 9)), min_size=1, max_size=3), answer=TEXT)
def test_whatever_calls_and_results_hold_comes_back(read: Read, made_with: list[dict[str, Any]], answer: str) -> None:
    calls = [
        f"<tool_call>\n{json.dumps({'name': 'f', 'arguments': a}, ensure_ascii=False)}\n</tool_call>" for a in made_with
    ]
    results = [response(answer, f"id{n}", "f") for n in range(len(calls))]
    [record] = made(read, saved(turn("human", "?"), turn("gpt", "Look.", *calls), turn("tool", *results)))
    _, _, asked, *answered = record.trajectory.steps
    assert (asked.content, [json.loads(c.arguments) for c in asked.tool_calls]) == ("Look.", made_with)
    assert [(s.content, s.tool_call_id) for s in answered] == [(answer, c.id) for c in asked.tool_calls]


def test_a_call_that_cannot_be_read_stays_in_the_text_and_is_counted(read: Read) -> None:
    broken = '<tool_call>\n{"name": "weather", "arguments"\n</tool_call>'
    [record] = made(read, saved(turn("human", "?"), turn("gpt", broken, call("clock")), turn("gpt", "<tool_call>\n{")))
    *_, first, second = record.trajectory.steps
    assert (first.content, first.metadata) == (broken, '{"unread_calls":1}')
    assert [c.name for c in first.tool_calls] == ["clock"]
    assert second.content == "<tool_call>\n{"


def test_a_batch_record(read: Read) -> None:
    none = {"count": 0, "success": 0, "failure": 0}
    [record] = made(
        read,
        {
            "prompt_index": 7,
            "conversations": [turn("human", "Hi"), turn("gpt", "<think>\n</think>\nHello")],
            "metadata": {"batch_num": 1, "model": "m", "gold": "GOLD"},
            "completed": False,
            "partial": True,
            "api_calls": 3,
            "toolsets_used": ["web"],
            "tool_stats": {"weather": none | {"count": 1, "success": 1}, "clock": none},
            "tool_error_counts": {"weather": 0, "clock": 0},
            "reward": 0.5,
        },
    )
    t = record.trajectory
    assert (t.model, t.end_state) == ("m", "partial")
    about = json.loads(t.metadata)
    assert (about["prompt_index"], about["batch_num"], about["api_calls"], about["toolsets_used"]) == (7, 1, 3, ["web"])
    assert about["tool_stats"] == {"weather": {"count": 1, "success": 1, "failure": 0}}
    assert about["tool_error_counts"] == {}
    assert "GOLD" not in repr(t)
    assert {o.signal: o.value for o in record.outcomes} == {"reward": 0.5}


def test_what_was_not_completed_failed(read: Read) -> None:
    [record] = made(read, saved(turn("human", "Hi"), turn("gpt", "I"), completed=False))
    assert (record.trajectory.end_state, record.outcomes) == ("failed", ())


def test_later_records_of_a_session_get_its_first_question_back(read: Read) -> None:
    said = [turn("gpt", "A1"), turn("human", "Q2"), turn("gpt", "A2"), turn("human", "Q3"), turn("gpt", "A3")]
    records = made(
        read,
        saved(turn("human", "Q1"), *said[:1]),
        saved(turn("human", "Q2"), *said[:3]),
        saved(turn("human", "Q3"), *said[:5]),
    )
    third = records[2].trajectory.steps[1:]
    assert [step.content for step in third] == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]
    for shorter, longer in itertools.pairwise(records):
        assert longer.trajectory.steps[: len(shorter.trajectory.steps)] == shorter.trajectory.steps
    assert len({record.trajectory.task_id for record in records}) == 1
    assert [json.loads(r.trajectory.metadata).get("opening") for r in records] == [None, "restored", "restored"]


def test_a_first_question_that_the_file_has_not_is_left_empty(read: Read) -> None:
    [record] = made(read, saved(turn("human", "Q2"), turn("gpt", "A1"), turn("human", "Q2"), turn("gpt", "A2")))
    assert [step.content for step in record.trajectory.steps[1:]] == [None, "A1", "Q2", "A2"]
    assert json.loads(record.trajectory.metadata)["opening"] == "lost"


def test_a_summary_of_what_was_left_out_is_marked(read: Read) -> None:
    [record] = made(read, saved(turn("human", "Q"), turn("gpt", "A"), turn("human", "[CONTEXT SUMMARY]: x")))
    assert json.loads(record.trajectory.steps[-1].metadata) == {"summary": True}


def test_function_calling_sets_with_calls_as_python_prints_them(read: Read) -> None:
    [record] = read(
        [
            {
                "id": "x",
                "conversations": [
                    turn("human", "Oslo?"),
                    turn("gpt", "<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Oslo'}}\n</tool_call>"),
                    turn("tool", "<tool_response>\nsun\n</tool_response>"),
                ],
                "tools": json.dumps([{"type": "function", "function": TOOL}]),
                "category": "weather",
            }
        ]
    )
    assert isinstance(record, Record)
    t = record.trajectory
    assert t.steps[1].tool_calls == (ToolCall(id="call_0", name="weather", arguments='{"city":"Oslo"}'),)
    assert (t.steps[2].content, t.steps[2].tool_call_id) == ("sun", "call_0")
    assert json.loads(t.tools) == [{"type": "function", "function": TOOL}]
    assert (t.task_type, t.end_state, json.loads(t.metadata)["category"]) == ("chat", "partial", "weather")


def test_gzip_of_many_members_with_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "trajectory_samples.jsonl.gz"
    rows = [saved(turn("human", f"Q{n}"), turn("gpt", "A")) for n in range(2)]
    lines = [json.dumps(rows[0]), '{"conversations": [', json.dumps(rows[1])]
    path.write_bytes(b"".join(gzip.compress(line.encode() + b"\n") for line in lines))
    importer = importer_of(path)
    first, bad, last = importer.read(path, "desk", NOW)
    assert importer.NAME == "hermes"
    assert isinstance(first, Record) and isinstance(last, Record) and isinstance(bad, Bad)
    assert (bad.line, last.trajectory.source_line) == (2, 3)
