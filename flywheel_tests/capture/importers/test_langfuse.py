"""Langfuse traces as trajectories."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flywheel.capture.importers import dialects, importer_of, langfuse
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

ASK = {"role": "user", "content": "Oslo?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "sun"}


def generation(id: str, second: int, input: Any, output: Any, **fields: Any) -> dict[str, Any]:
    """A call of a model: what went in and came out is JSON text, as Langfuse exports it."""
    return {
        "id": id,
        "traceId": "t1",
        "projectId": "p",
        "type": "GENERATION",
        "startTime": f"2026-01-01T00:00:{second:02}.000Z",
        "endTime": f"2026-01-01T00:00:{second + 1:02}.000Z",
        "input": json.dumps(input),
        "output": json.dumps(output),
        "model": "m-1",
    } | fields


def trace(*observations: dict[str, Any], scores: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    return {
        "trace": {"id": "t1", "projectId": "p", "name": "desk agent", "scores": list(scores), **fields},
        "observations": list(observations),
    }


def made(read: Read, value: dict[str, Any]) -> list[Record]:
    records = read(value, "x.trace.json")
    assert all(isinstance(record, Record) for record in records), records
    return [record for record in records if isinstance(record, Record)]


def test_calls_that_go_on_from_one_another_are_one_trajectory(read: Read) -> None:
    [record] = made(
        read,
        trace(
            generation("b", 3, [ASK, CALLING, TOLD], {"role": "assistant", "content": "Sun."}),
            generation("a", 1, [ASK], CALLING, usageDetails={"input": 9, "output": 4}),
        ),
    )
    t = record.trajectory
    assert [(s.role, s.content, s.prompt_tokens, s.completion_tokens) for s in t.steps] == [
        ("user", "Oslo?", None, None),
        ("assistant", None, 9, 4),
        ("tool", "sun", None, None),
        ("assistant", "Sun.", None, None),
    ]
    assert t.steps[1].tool_calls == (ToolCall(id="c1", name="weather", arguments='{"city":"Oslo"}'),)
    assert t.steps[1].at is not None and t.steps[1].at.second == 2
    assert (t.agent, t.model, t.end_state) == ("desk agent", "m-1", "completed")
    assert json.loads(t.metadata)["observations"] == ["a", "b"]
    assert record.outcomes == ()  # unlabelled is not success


def test_a_rewritten_history_and_another_answer_are_trajectories_of_their_own(read: Read) -> None:
    records = made(
        read,
        trace(
            generation("a", 1, [ASK], {"role": "assistant", "content": "Wait."}),
            generation("b", 2, [ASK, CALLING, TOLD], {"role": "assistant", "content": "Sun."}),
            generation(
                "c", 3, [{"role": "user", "content": "Sum up."}], {"role": "assistant", "content": "Sun in Oslo."}
            ),
        ),
    )
    assert [[s.content for s in r.trajectory.steps] for r in records] == [
        ["Oslo?", None, "sun", "Sun."],
        ["Sum up.", "Sun in Oslo."],
        ["Oslo?", "Wait."],
    ]
    assert len({r.trajectory.id for r in records}) == 3


def test_a_tool_that_ran_after_the_last_call_is_its_result(read: Read) -> None:
    ran = generation("b", 2, {"city": "Oslo"}, "sun", type="TOOL", name="weather")
    ran["output"] = "sun"
    [record] = made(read, trace(generation("a", 1, [ASK], CALLING), ran))
    assert record.trajectory.steps[-1] == Step(
        role="tool",
        content="sun",
        tool_call_id="c1",
        tool_name="weather",
        is_error=False,
        at=record.trajectory.steps[-1].at,
    )
    assert record.trajectory.end_state == "partial"


def test_scores_are_outcomes_of_the_trace_and_of_its_calls(read: Read) -> None:
    [record] = made(
        read,
        trace(
            generation("a", 1, [ASK], {"role": "assistant", "content": "Sun."}),
            scores=(
                {"name": "correct", "value": 1, "timestamp": "2026-01-02T00:00:00Z", "comment": "SECRET"},
                {"name": "tone", "value": 0.5, "observationId": "a"},
                {"name": "kind", "value": None, "stringValue": "weather"},
            ),
        ),
    )
    told = [(o.signal, o.value, o.step_index, o.observed_at.day) for o in record.outcomes]
    assert told == [("correct", 1.0, None, 2), ("tone", 0.5, 1, NOW.day)]
    assert json.loads(record.trajectory.metadata)["scores"] == {"kind": "weather"}
    assert "SECRET" not in repr(record)


def test_a_trace_without_messages_and_one_without_observations_are_bad(read: Read) -> None:
    [bad] = read(trace(), "x.json")
    assert isinstance(bad, Bad) and "no generation" in bad.error
    good = trace(generation("a", 1, [ASK], {"role": "assistant", "content": "Sun."}))
    records = read([{"trace": {"projectId": "p", "scores": []}}, good], "x.jsonl")
    assert [(type(r), r.line) if isinstance(r, Bad) else type(r) for r in records] == [(Bad, 1), Record]


FRAMEWORKS = ["langgraph-python-2025-08-22", "openai-agents-2025-09-30", "vercel-aisdk-2025-11-17"]


SIDES = (("input", "user"), ("output", "assistant"))
# Where the expectation of Langfuse is not ours, and why.
ARGUABLE = {
    # A request of Vercel's SDK that gives a prompt in place of messages: it is what the user said.
    ("1dc6768109615657", "input"): [("user", "What is the weather like today in San Francisco?", None, [])],
    # What a tool gave, without a role or a content: Langfuse calls it a message that says nothing. It is a result.
    ("e9bb8c191e1e4706", "output"): [("assistant", '{"location":"San Francisco","temperature":64}', None, [])],
}


@pytest.mark.parametrize(("name", "sides"), [*zip(FRAMEWORKS, (18, 6, 6), strict=True)])
def test_every_observation_is_read_as_langfuse_reads_it(shared_data: Path, name: str, sides: int) -> None:
    """Messages, calls and tools are those that Langfuse expects; where it expects none, there is at most a text."""
    export = json.loads((shared_data / "langfuse" / f"{name}.trace.json").read_bytes())
    expected = json.loads((shared_data / "langfuse" / f"{name}.chatml.json").read_bytes())
    compared = 0
    for seen in export["observations"]:
        if seen["id"] not in expected:
            assert (seen["type"], seen["input"], seen["output"]) == ("AGENT", None, None)
            continue
        for side, role in SIDES:
            mine, oracle = dialects.messages(seen[side], role), expected[seen["id"]][side]
            compared += 1
            if why := ARGUABLE.get((seen["id"], side)):
                assert [plain(m) for m in mine] == why
            elif oracle["success"]:
                assert [plain(m) for m in mine] == [plain(m) for m in oracle["data"]]
            else:
                assert mine == [{"role": role, "content": dialects.as_text(dialects.decoded(seen[side]))}]
                assert seen["type"] != "GENERATION"  # so it is not read as messages at all
        offered = {json.dumps(tool, sort_keys=True) for m in said(expected[seen["id"]]) for tool in m.get("tools", ())}
        if seen["type"] == "GENERATION" and offered:
            call = langfuse.call(msgspec.convert(seen, langfuse.Observation))
            mine_offered = [{"description": "", **tool["function"]} for tool in call.tools]
            assert {json.dumps(tool, sort_keys=True) for tool in mine_offered} == offered
    assert compared == sides


def said(expected: dict[str, Any]) -> list[dict[str, Any]]:
    return [m for side in expected.values() if side["success"] for m in side["data"]]


def plain(message: dict[str, Any]) -> tuple[Any, ...]:
    """Who said and called what, in either shape."""
    calls = [call.get("function", call) | {"id": call["id"]} for call in message.get("tool_calls") or ()]
    return (
        message["role"],
        # Of a result that is JSON Langfuse shows the value; the record keeps the text, as the model was given it.
        (dialects.decoded if message["role"] == "tool" else str)(message.get("content") or ""),
        message.get("tool_call_id"),
        [(call["id"], call["name"], call["arguments"]) for call in calls],
    )


@pytest.mark.parametrize(("name", "steps"), [*zip(FRAMEWORKS, (5, 5, 3), strict=True)])
def test_real_traces_are_one_trajectory_each(shared_data: Path, name: str, steps: int) -> None:
    path = shared_data / "langfuse" / f"{name}.trace.json"
    [record] = importer_of(path).read(path, "desk", NOW)
    assert isinstance(record, Record)
    assert len(record.trajectory.steps) == steps
    assert len(json.loads(record.trajectory.tools)) == 1
    assert {o.signal for o in record.outcomes} == {"hallucination", "toxicity"}
