"""Spans of OpenTelemetry as trajectories."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.importers import dialects, otlp, spans
from flywheel.capture.importers.conversations import joined
from flywheel.capture.importers.records import Bad, Record
from flywheel.capture.importers.spans import Span
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read

USER = {"role": "user", "parts": [{"type": "text", "content": "Oslo?"}]}
CALLING = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}],
}
TOLD = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sun"}]}
ANSWER = {"role": "assistant", "parts": [{"type": "text", "content": "Sun."}], "finish_reason": "stop"}
STEPS = (
    Step(role="user", content="Oslo?"),
    Step(role="assistant", tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city":"Oslo"}'),)),
    Step(role="tool", content="sun", tool_call_id="c1", tool_name="weather"),
    Step(role="assistant", content="Sun."),
)
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}

CURRENT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": json.dumps([USER, CALLING, TOLD]),
    "gen_ai.output.messages": json.dumps([ANSWER]),
    "gen_ai.tool.definitions": json.dumps([{"type": "function", **FUNCTION}]),
}
OF_BEFORE = {
    "llm.request.type": "chat",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": '[{"type": "text", "text": "Oslo?"}]',
    "gen_ai.prompt.1.role": "assistant",
    "gen_ai.prompt.1.tool_calls.0.id": "c1",
    "gen_ai.prompt.1.tool_calls.0.name": "weather",
    "gen_ai.prompt.1.tool_calls.0.arguments": '{"city":"Oslo"}',
    "gen_ai.prompt.2.role": "tool",
    "gen_ai.prompt.2.tool_call_id": "c1",
    "gen_ai.prompt.2.content": "sun",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "Sun.",
    "llm.request.functions.0.name": "weather",
    "llm.request.functions.0.parameters": '{"type": "object"}',
}
INFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.contents.0.message_content.type": "text",
    "llm.input_messages.0.message.contents.0.message_content.text": "Oslo?",
    "llm.input_messages.1.message.role": "assistant",
    "llm.input_messages.1.message.tool_calls.0.tool_call.id": "c1",
    "llm.input_messages.1.message.tool_calls.0.tool_call.function.name": "weather",
    "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments": '{"city":"Oslo"}',
    "llm.input_messages.2.message.role": "tool",
    "llm.input_messages.2.message.tool_call_id": "c1",
    "llm.input_messages.2.message.content": "sun",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Sun.",
    "llm.tools.0.tool.json_schema": json.dumps({"type": "function", "function": FUNCTION}),
}
VALUES = {
    "openinference.span.kind": "LLM",
    "input.value": json.dumps({"messages": [USER, CALLING, TOLD], "temperature": 0}),
    "output.value": json.dumps({"choices": [{"message": {"role": "assistant", "content": "Sun."}}]}),
    "llm.tools.0.tool.json_schema": json.dumps({"type": "function", "function": FUNCTION}),
}
EVENTS = [
    ("gen_ai.user.message", {"content": "Oslo?"}),
    (
        "gen_ai.assistant.message",
        {
            "tool_calls": json.dumps(
                [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}]
            )
        },
    ),
    ("gen_ai.tool.message", {"id": "c1", "content": "sun"}),
    ("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": '{"content": "Sun."}'}),
]


def span(attributes: dict[str, Any], id: str = "s1", trace: str = "t1", second: int = 1, **fields: Any) -> Any:
    """A span as OTLP writes it."""
    return {
        "traceId": trace,
        "spanId": id,
        "name": "chat m-1",
        "startTimeUnixNano": str(second * 10**9),
        "endTimeUnixNano": str((second + 1) * 10**9),
        "attributes": [{"key": key, "value": typed(value)} for key, value in attributes.items()],
    } | fields


def typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool | str):
        return {"boolValue" if isinstance(value, bool) else "stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(item) for item in value]}}
    return {"kvlistValue": {"values": [{"key": k, "value": typed(v)} for k, v in value.items()]}}


def request(*found: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(found)}]}]}


def made(records: list[Record | Bad]) -> list[Record]:
    assert all(isinstance(record, Record) for record in records), records
    return [record for record in records if isinstance(record, Record)]


@pytest.mark.parametrize(
    "attributes",
    [
        CURRENT,
        CURRENT | {"gen_ai.input.messages": [USER, CALLING, TOLD], "gen_ai.output.messages": [ANSWER]},
        OF_BEFORE,
        INFERENCE,
        VALUES,
    ],
    ids=["current", "current as values", "indexed", "OpenInference", "OpenInference values"],
)
def test_every_convention_says_the_same(read: Read, attributes: dict[str, Any]) -> None:
    [record] = made(read(request(span(attributes)), "x.json"))
    assert tuple(plain(step) for step in record.trajectory.steps) == STEPS
    assert json.loads(record.trajectory.tools) == [{"type": "function", "function": FUNCTION}]
    assert record.trajectory.end_state == "completed"
    assert record.outcomes == ()


def plain(step: Step) -> Step:
    return Step(
        role=step.role,
        content=step.content or None,
        tool_calls=step.tool_calls,
        tool_call_id=step.tool_call_id,
        tool_name=step.tool_name,
    )


def test_messages_as_events() -> None:
    [call] = spans.calls(Span(trace="t", id="s", attributes={"gen_ai.system": "openai"}, events=EVENTS))
    [conversation] = joined([call])
    assert tuple(plain(step) for step in conversation.steps) == STEPS
    assert call.provider == "openai"


def test_details_of_an_event_are_attributes() -> None:
    event = ("gen_ai.client.inference.operation.details", CURRENT)
    [call] = spans.calls(Span(trace="t", id="s", attributes={"gen_ai.operation.name": "chat"}, events=[event]))
    assert [m["role"] for m in call.messages + call.answer] == ["user", "assistant", "tool", "assistant"]


def test_calls_of_a_trace_are_joined_and_a_rewritten_history_stands_alone(read: Read) -> None:
    usage = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 4, "gen_ai.response.model": "m-1"}
    first = (
        CURRENT
        | usage
        | {
            "gen_ai.input.messages": json.dumps([USER]),
            "gen_ai.output.messages": json.dumps([CALLING]),
        }
    )
    summary = CURRENT | {"gen_ai.input.messages": json.dumps([{"role": "user", "content": "Sum up: Oslo?"}])}
    around = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"} | {
        "gen_ai.input.messages": json.dumps([USER]),
        "gen_ai.output.messages": json.dumps([ANSWER]),
    }
    lines = [
        request(span(first, "a", second=1, parentSpanId="root")),
        request(span(CURRENT, "b", second=3, parentSpanId="root"), span(summary, "c", second=5)),
        request(span(around, "root", second=0), span({"http.route": "/"}, "x", trace="t2")),
    ]
    records = made(read(lines, "spans.jsonl"))
    assert [[s.content for s in r.trajectory.steps] for r in records] == [
        ["Oslo?", None, "sun", "Sun."],
        ["Sum up: Oslo?", "Sun."],
    ]
    t = records[0].trajectory
    assert (t.agent, t.source_line, json.loads(t.metadata)["spans"]) == ("desk", 1, ["a", "b"])
    assert (t.steps[1].prompt_tokens, t.steps[1].completion_tokens) == (9, 4)
    assert t.started_at is not None and t.started_at.timestamp() == 1
    # In another order, and with a request that was sent twice, it is the same record.
    again = made(read([*lines[::-1], lines[0]], "other.jsonl"))
    assert [r.trajectory.id for r in again] == [r.trajectory.id for r in records]


def test_several_choices_are_several_trajectories(read: Read) -> None:
    other = {"role": "assistant", "parts": [{"type": "text", "content": "Rain."}]}
    records = made(read(request(span(CURRENT | {"gen_ai.output.messages": json.dumps([ANSWER, other])})), "x.json"))
    assert [r.trajectory.steps[-1].content for r in records] == ["Sun.", "Rain."]


def test_a_call_around_calls_is_not_one(read: Read) -> None:
    ends = VALUES | {"input.value": "Oslo?", "output.value": "Sun."}
    [record] = made(read(request(span(ends, "a"), span(CURRENT, "b", parentSpanId="a")), "x.json"))
    assert len(record.trajectory.steps) == 4


def test_a_tools_run_and_a_failure(read: Read) -> None:
    call = CURRENT | {"gen_ai.input.messages": json.dumps([USER]), "gen_ai.output.messages": json.dumps([CALLING])}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather", "gen_ai.tool.call.id": "c1"}
    ran = span(tool | {"gen_ai.tool.call.result": "down"}, "b", second=2, status={"code": 2})
    [record] = made(read(request(span(call, "a"), ran), "x.json"))
    step = record.trajectory.steps[-1]
    assert (step.role, step.content, step.tool_call_id, step.tool_name, step.is_error) == (
        "tool",
        "down",
        "c1",
        "weather",
        True,
    )
    [record] = made(read(request(span(CURRENT, status={"code": "STATUS_CODE_ERROR"})), "x.json"))
    assert record.trajectory.end_state == "failed"


def test_bad_spans_cost_no_other(read: Read) -> None:
    records = read(
        [
            request(span(CURRENT)),
            {"resourceSpans": [7]},
            request(span(CURRENT | {"gen_ai.input.messages": '[{"role": "wizard", "content": "x"}]'}, "b", "t2")),
            request(span({"gen_ai.operation.name": "chat"}, "c", "t3")),
        ],
        "x.jsonl",
    )
    errors = [(r.line, r.error) for r in records if isinstance(r, Bad)]
    assert [line for line, _ in errors] == [2, 3, 4]
    assert "wizard" in errors[1][1] and "no messages" in errors[2][1]
    assert sum(isinstance(r, Record) for r in records) == 1


def test_a_file_without_a_model_says_so(read: Read) -> None:
    [bad] = read(request(span({"http.route": "/"})), "x.json")
    assert isinstance(bad, Bad) and "no span of the file is a call of a model" in bad.error


MEMBERS = ("role", "type", "content", "text", "parts", "name", "id", "message", "function", "tool_calls")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "type", "content", "text", "parts", "name", "id", "message", "function", "tool_calls"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)
NAMES = sorted({*CURRENT, *OF_BEFORE, *INFERENCE, *VALUES})


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), JSON)
def test_whatever_stands_in_attributes_is_a_conversation_or_a_value_error(attributes: Any, said: Any) -> None:
    one = Span(trace="t", id="s", attributes={"openinference.span.kind": "LLM", **attributes})
    try:
        for conversation in joined(spans.calls(one)):
            assert conversation.steps
        assert dialects.messages(said) is not None
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("name", "conversations", "bad"),
    [
        ("openinference_repo.openinference_client_span_input_output_only", 1, 0),
        ("openinference_repo.openinference_client_span_tool_calls", 1, 0),
        ("openinference_repo.otel_genai_client_span_tool_calls", 1, 0),
        ("openinference_repo.otel_genai_deprecated_client_span_tool_calls", 1, 0),
        ("openinference_repo.otel_genai_tool_execution_span", 0, 1),
        ("vercel_aisdk_v6_spans.openinference", 4, 0),
    ],
)
def test_real_spans(shared_data: Path, name: str, conversations: int, bad: int) -> None:
    records = list(otlp.read(shared_data / "openinference" / f"{name}.json", "desk", NOW))
    found = [record.trajectory for record in records if isinstance(record, Record)]
    assert (len(found), len(records) - len(found)) == (conversations, bad)
    for t in found:
        assert t.steps[-1].role == "assistant" and t.steps[-1].completion_tokens
        if name.startswith("openinference_repo"):
            assert [s.role for s in t.steps] == ["user", "assistant", "tool", "assistant"]
            assert t.steps[1].tool_calls == (ToolCall(id="1234", name="get_weather", arguments='{"location":"Paris"}'),)
            assert (t.steps[2].content, t.model) == ("rainy, 57°F", "gpt-4-0613")


@pytest.mark.parametrize(
    ("attributes", "events"),
    [
        (CURRENT, []),
        ({**CURRENT, "gen_ai.output.messages": json.dumps([{**ANSWER, "finish_reason": None}])}, []),
        (OF_BEFORE | {"gen_ai.completion.0.finish_reason": "stop"}, []),
        ({"gen_ai.operation.name": "chat"}, EVENTS),
    ],
    ids=["messages", "reasons", "OpenLLMetry", "events"],
)
def test_what_is_known_of_an_answer_stands_beside_its_step(attributes: dict[str, Any], events: list[Any]) -> None:
    asked = {"gen_ai.request.model": "m", "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": 9}
    told = {"gen_ai.response.id": "r1"} | ({} if events else {"gen_ai.response.finish_reasons": ["stop"]})
    [conversation] = joined(spans.calls(Span(trace="t", id="s", attributes=attributes | asked | told, events=events)))

    assert json.loads(conversation.steps[-1].metadata) == {
        "finish_reason": "stop",
        "response_id": "r1",
        "parameters": {"temperature": 0.5, "max_tokens": 9},
    }
