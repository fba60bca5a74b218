"""OTLP requests: what is kept of them, redacted, and what is refused."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flywheel.capture.importers import trace
from flywheel.capture.otlp import Kind, Receiver, Taken
from flywheel.capture.redaction.redact import Redactor
from flywheel.schema import FlywheelError
from flywheel_tests.capture.importers.test_otlp import CURRENT, EVENTS, STEPS, plain, request, span
from flywheel_tests.capture.importers.test_trace import CHAT, log, logs

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
KINDS: dict[Kind, Any] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}


def protobuf(kind: Kind, body: dict[str, Any], *ids: str) -> bytes:
    """A request in protobuf; as JSON it has its ids in base64 for this library, in hexadecimal for OTLP."""
    text = json.dumps(body)
    for name in ids or (TRACE, SPAN):
        text = text.replace(f'"{name}"', f'"{b64encode(bytes.fromhex(name)).decode()}"')
    return ParseDict(json.loads(text), KINDS[kind]()).SerializeToString()


def take(kind: Kind, body: Any, *, as_json: bool, receiver: Receiver | None = None) -> Taken:
    receiver = receiver or Receiver(Redactor)
    if as_json:
        return receiver.take(kind, json.dumps(body).encode(), as_json=True)
    return receiver.take(kind, protobuf(kind, body), as_json=False)


both = pytest.mark.parametrize("as_json", [True, False], ids=["json", "protobuf"])


@both
def test_spans_of_a_request(as_json: bool) -> None:
    body = request(
        span(CURRENT, SPAN, TRACE),
        span({"http.route": "/"}, SPAN, TRACE),
    )
    body["resourceSpans"][0]["resource"] = {"attributes": [{"key": "service.name", "value": {"stringValue": "desk"}}]}
    first, other = take("traces", body, as_json=as_json).spans
    assert (first.trace, first.id, first.name) == (TRACE, SPAN, "chat m-1")
    assert first.resource == {"service.name": "desk"}
    [conversation] = trace.of([first]).conversations
    assert tuple(plain(step) for step in conversation.steps) == STEPS
    assert (other.attributes, other.name) == ({}, "")


@both
def test_events_of_a_request(as_json: bool) -> None:
    told = [log(name, said, SPAN, second=n + 1) | {"traceId": TRACE} for n, (name, said) in enumerate(EVENTS)]
    app = {"timeUnixNano": "1", "body": {"stringValue": "started"}}
    taken = take("logs", logs(*told, app), as_json=as_json)
    assert (len(taken.spans), taken.passed_over, taken.refused) == (4, 1, [])
    [conversation] = trace.of(taken.spans).conversations
    assert tuple(plain(step) for step in conversation.steps) == STEPS


@both
def test_secrets_are_gone_before_anything_is_kept(as_json: bool) -> None:
    mail = "ann@x.org"
    said = [{"role": "user", "content": f"I am {mail}"}]
    attributes = CURRENT | {"gen_ai.input.messages": said, "user.id": mail, "list": [mail, {"password": "hunter2x"}]}
    body = request(
        span(attributes, SPAN, TRACE, status={"code": 2, "message": f"no {mail}"}, name=f"chat {mail}")
        | {"events": [{"name": mail, "attributes": [{"key": mail, "value": {"stringValue": mail}}]}]}
    )
    [kept] = take("traces", body, as_json=as_json).spans
    assert mail not in repr(kept) and "hunter2x" not in repr(kept)
    assert kept.attributes["gen_ai.input.messages"] == [{"role": "user", "content": "I am <EMAIL>"}]
    assert kept.error == "no <EMAIL>"


def test_a_history_is_redacted_alike_wherever_it_is_repeated() -> None:
    first = [{"role": "user", "content": "ann@x.org"}]
    second = [*first, {"role": "assistant", "content": "bob@x.org"}, {"role": "user", "content": "cid@x.org"}]
    spans = []
    for number, (said, answer) in enumerate([(first, "bob@x.org"), (second, "dan@x.org")]):
        attributes = {
            "gen_ai.operation.name": "chat",
            "user.mail": f"{number}@x.org",
            "gen_ai.output.messages": [{"role": "assistant", "content": answer}],
            "gen_ai.input.messages": said,
            "gen_ai.system_instructions": [{"type": "text", "content": "eve@x.org"}],
        }
        made = span(attributes, SPAN[:-1] + str(number), TRACE, number + 1)
        spans += take("traces", request(made), as_json=True).spans
    [conversation] = trace.of(spans).conversations
    assert [s.content for s in conversation.steps] == ["<EMAIL>", "<EMAIL_2>", "<EMAIL_3>", "<EMAIL_4>", "<EMAIL_5>"]


def test_events_of_one_span_are_redacted_alike_in_whatever_requests_they_come() -> None:
    receiver = Receiver(Redactor)
    for number, mail in enumerate(["ann@x.org", "bob@x.org", "ann@x.org"]):
        record = log("gen_ai.user.message", {"content": mail}, SPAN, second=number + 1)
        [kept] = take("logs", logs(record), as_json=True, receiver=receiver).spans
        assert kept.events[0][1]["content"] == ("<EMAIL>", "<EMAIL_2>", "<EMAIL>")[number]


def test_what_cannot_be_read_is_refused_and_the_rest_is_kept() -> None:
    wizard = CURRENT | {"gen_ai.input.messages": '[{"role": "wizard", "content": "ann@x.org"}]'}
    huge = span(CURRENT, "c1", TRACE) | {"attributes": [{"key": "n", "value": {"intValue": "9" * 400}}, {"value": 7}]}
    body = request(span(wizard, "a1", TRACE), 7, span(CURRENT, "", TRACE), huge, span(CURRENT, SPAN, TRACE))
    taken = take("traces", body, as_json=True)
    assert [s.id for s in taken.spans] == [SPAN]
    assert len(taken.refused) == 4
    assert "wizard" in taken.refused[0].error and "not an object" in taken.refused[1].error
    assert "names no trace or no span" in taken.refused[2].error
    assert "ann@x.org" not in repr(taken.refused)


def test_ids_that_are_none_are_refused() -> None:
    [refused] = take("traces", request(span(CURRENT, "AA==", "AA==")), as_json=False).refused
    assert "trace_id is not 16 bytes" in refused.error


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 9999, b'{"resourceSpans": 7}', b"\xff", b'{"a": NaN}'])
def test_what_is_no_request_is_an_error(data: bytes) -> None:
    with pytest.raises(FlywheelError, match="no OTLP request for traces in JSON"):
        Receiver(Redactor).take("traces", data, as_json=True)


def test_an_empty_request_holds_nothing() -> None:
    assert Receiver(Redactor).take("traces", b"{}", as_json=True) == Taken(spans=[], refused=[])
    assert Receiver(Redactor).take("logs", b"", as_json=False) == Taken(spans=[], refused=[])
    with pytest.raises(FlywheelError, match="protobuf"):
        Receiver(Redactor).take("logs", b"\xff\xff", as_json=False)


def test_half_a_character_is_a_question_mark() -> None:
    cut = json.dumps(request(span(CHAT | {"gen_ai.prompt": "so \ud83d"}, SPAN, TRACE))).encode()
    [kept] = Receiver(Redactor).take("traces", cut, as_json=True).spans
    assert kept.attributes["gen_ai.prompt"] == "so ?"
