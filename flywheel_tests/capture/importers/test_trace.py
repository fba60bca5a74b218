"""Spans and logged events of one trace, put together."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from flywheel.capture.importers import spans, trace
from flywheel.capture.importers.conversations import Call, innermost, joined
from flywheel.capture.importers.records import Record
from flywheel.capture.importers.spans import Span
from flywheel_tests.capture.importers.conftest import Read
from flywheel_tests.capture.importers.test_otlp import (
    CURRENT,
    EVENTS,
    INFERENCE,
    STEPS,
    VALUES,
    plain,
    request,
    span,
    typed,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.usage.output_tokens": 4}


def event(number: int, name: str, said: dict[str, Any], id: str = "s1") -> Span:
    at = START + timedelta(seconds=number)
    made = spans.event(name, {}, said, trace="t1", id=id, at=at, resource={})
    assert made is not None
    return made


def test_events_logged_apart_belong_to_their_span_in_whatever_order_they_come() -> None:
    service = {"service.name": "desk", "service.version": "2"}
    parts = [
        Span(trace="t1", id="s1", attributes=CHAT, started_at=START, resource=service),
        *(event(number, *told) for number, told in enumerate(EVENTS)),
    ]
    for order in (parts, parts[::-1], [*parts, parts[2], parts[0]], *list(permutations(parts))[:30]):
        told = trace.of(order)
        [conversation] = told.conversations
        assert tuple(plain(step) for step in conversation.steps) == STEPS
        assert conversation.steps[-1].completion_tokens == 4
        assert (told.agent, told.agent_version, told.models, told.bad) == ("desk", "2", 1, [])
        assert told.digest == trace.of(parts).digest


def test_the_details_of_a_call_are_read_where_its_span_never_came() -> None:
    [conversation] = trace.of([event(0, "gen_ai.client.inference.operation.details", CURRENT)]).conversations
    assert tuple(plain(step) for step in conversation.steps) == STEPS


def test_a_call_whose_events_tell_of_roles_alone_tells_of_no_messages() -> None:
    parts = [
        Span(trace="t1", id="s1", attributes=CHAT, started_at=START),
        event(0, "gen_ai.user.message", {"gen_ai.system": "openai"}),
        event(1, "gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}),
    ]
    told = trace.of(parts)
    assert (told.models, told.conversations, told.bad) == (1, [], [])


def test_of_other_spans_only_what_is_around_what_is_kept() -> None:
    plain_span = Span(trace="t", id="a", parent="b", name="GET /", attributes={"url": "x"}, resource={"a": 1})
    assert spans.kept(plain_span) == Span(trace="t", id="a", parent="b", attributes={})
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk", "gen_ai.input.messages": "[]"}
    assert spans.kept(Span(trace="t", id="a", attributes=agent)).attributes == {"gen_ai.agent.name": "desk"}
    model = Span(trace="t", id="a", attributes=CURRENT)
    assert spans.kept(model) is model


def test_messages_that_the_sdk_dropped_are_not_made_up() -> None:
    lost = {k: v for k, v in INFERENCE.items() if not k.startswith("llm.input_messages.0")}
    with pytest.raises(ValueError, match="dropped 4 of its attributes"):
        spans.calls(Span(trace="t", id="s", attributes=lost, dropped=4))
    [call] = spans.calls(Span(trace="t", id="s", attributes=lost | VALUES, dropped=4))  # said there once more
    assert [m["role"] for m in call.messages + call.answer] == ["user", "assistant", "tool", "assistant"]
    assert len(spans.calls(Span(trace="t", id="s", attributes=CURRENT, dropped=4))) == 1


def log(name: str, body: Any, span_id: str = "s1", second: int = 1, **attributes: Any) -> Any:
    """A log record as OTLP writes it."""
    return {
        "timeUnixNano": str(second * 10**9),
        "eventName": name,
        "traceId": "t1",
        "spanId": span_id,
        "attributes": [{"key": key, "value": typed(value)} for key, value in attributes.items()],
    } | ({"body": typed(body)} if body is not None else {})


def logs(*records: Any) -> dict[str, Any]:
    return {"resourceLogs": [{"resource": {}, "scopeLogs": [{"logRecords": list(records)}]}]}


def test_logs_and_spans_of_a_file(read: Read) -> None:
    told = [log(name, said, second=n + 1) for n, (name, said) in enumerate(EVENTS)]
    plain_log = {"timeUnixNano": "1", "body": {"stringValue": "started"}}
    [record] = read([logs(*told, plain_log), request(span(CHAT, "s1", "t1"))], "otlp.jsonl")
    assert isinstance(record, Record)
    assert tuple(plain(step) for step in record.trajectory.steps) == STEPS
    assert (record.trajectory.provider, record.trajectory.steps[-1].completion_tokens) == ("openai", 4)


def test_an_event_of_before_that_names_no_span_is_told(read: Read) -> None:
    lost = log(*EVENTS[0], span_id="")
    details = log("gen_ai.client.inference.operation.details", None, "", **CURRENT)
    bad, record = read(logs(lost, details), "otlp.json")
    assert "names no span" in bad.error  # type: ignore[union-attr]
    assert isinstance(record, Record) and len(record.trajectory.steps) == 4


@pytest.mark.parametrize(
    ("parents", "inner"),
    [
        ({"a": None, "b": "a"}, ["b"]),
        ({"a": None, "b": "x", "x": "a"}, ["b"]),
        ({"a": "b", "b": "a"}, ["a", "b"]),
        ({"a": "a", "b": None}, ["a", "b"]),
    ],
    ids=["around", "around by another", "a ring", "around itself"],
)
def test_calls_around_others_are_left_out(parents: dict[str, str | None], inner: list[str]) -> None:
    calls = [call("a"), call("a#1"), call("b")]
    assert sorted({c.id[0] for c in innermost(calls, parents)}) == inner


def call(id: str, *said: str) -> Call:
    history, answer = said[:-1], said[-1:]
    return Call(
        id=id,
        messages=[{"role": "user", "content": text} for text in history],
        answer=[{"role": "assistant", "content": text} for text in answer],
    )


def test_calls_join_where_one_opens_another() -> None:
    calls = [call("a", "1", "2"), call("c", "1", "3"), call("d", "9", "2")]
    longer = Call(id="b", messages=calls[0].messages + calls[0].answer, answer=call("b", "4").answer)
    found = joined([*calls, longer])
    assert [sorted(c.answers) for c in found] == [["a", "b"], ["c"], ["d"]]
