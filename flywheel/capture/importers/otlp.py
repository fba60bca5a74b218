"""OpenTelemetry spans as JSON: OTLP (`resourceSpans`), one request a line or one a file, and lists of spans."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import documents, spans
from flywheel.capture.importers.conversations import EPOCH, Call, Result, innermost, joined
from flywheel.capture.importers.records import EXCERPT, Bad, Origin, Record, utc
from flywheel.capture.importers.spans import Span
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, canonical_json

NAME = "otlp"
# As the name of a member: within a text it would stand after a backslash.
MARK = re.compile(
    rb'(?<!\\)"(?:resourceSpans|resource_spans|openinference\.span\.kind|gen_ai\.[a-z_.]+|ai\.operationId)"\s*:'
)
SCALARS = ("stringValue", "boolValue", "doubleValue", "bytesValue")


class Trace(msgspec.Struct):
    """What is kept of a trace while its file is read: its calls, its tools' results, and which span is in which."""

    line: int
    excerpt: str
    calls: list[Call] = []
    results: list[Result] = []
    parents: dict[str, str | None] = {}
    agents: list[str] = []
    sessions: list[str] = []
    digests: list[str] = []
    models: int = 0


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds spans."""
    return MARK.search(head) is not None


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file's traces, whose spans may stand anywhere in it; a trace without a model has none."""
    traces: dict[str, Trace] = {}
    with documents.opened(path) as data:
        size = len(data)
        for index, piece in enumerate(documents.records(data)):
            excerpt = piece.data[:EXCERPT].decode("utf-8", "replace")
            try:
                if piece.cut:
                    raise ValueError("the file breaks off or goes on where a record should end")
                found = list(_spans(msgspec.json.decode(piece.data), hashlib.sha256(piece.data).hexdigest()[:32]))
            except (ValueError, OverflowError, RecursionError) as error:
                yield Bad(piece.line, f"record {index}: {error}", excerpt, piece.end)
                continue
            for span in found:
                try:
                    _add(traces.setdefault(span.trace, Trace(piece.line, excerpt)), span)
                except (ValueError, OverflowError, RecursionError) as error:
                    yield Bad(piece.line, f"record {index}, span {span.id}: {error}", excerpt, piece.end)
    told = [(id, trace) for id, trace in traces.items() if trace.models]
    if traces and not told:
        first = next(iter(traces.values()))
        yield Bad(first.line, "no span of the file is a call of a model", first.excerpt, size)
    for index, (id, trace) in enumerate(told):
        digest = hashlib.sha256(canonical_json(sorted(set(trace.digests))).encode()).hexdigest()
        origin = Origin(
            format=NAME,
            workspace=workspace,
            arrived_at=arrived_at,
            path=path,
            line=trace.line,
            index=index,
            digest=digest,
        )
        try:
            records = _made(id, trace, origin, size)
        except (ValueError, OverflowError, RecursionError, FlywheelError) as error:
            yield Bad(trace.line, f"trace {id}: {error}", trace.excerpt, size)
            continue
        yield from records


def _made(id: str, trace: Trace, origin: Origin, end: int) -> list[Record]:
    if not trace.calls:
        raise ValueError("its calls of a model tell of no messages: was the capture of content switched on?")
    records = []
    for conversation in joined(innermost(trace.calls, trace.parents), trace.results):
        trajectory = origin.trajectory(
            also=conversation.last.id,
            metadata={
                "trace": id,
                "session": next(iter(trace.sessions), None),
                "spans": sorted(conversation.answers),
            },
            **conversation.fields(agent=next(iter(trace.agents), "")),
        )
        records.append(Record(checked(trajectory), (), end))
    return records


def _add(trace: Trace, span: Span) -> None:
    model, result, calls = spans.is_model(span), spans.result(span), spans.calls(span)
    trace.parents[span.id] = span.parent
    if session := span.text("gen_ai.conversation.id", "session.id"):
        trace.sessions.append(session)
    if agent := span.text("gen_ai.agent.name"):
        trace.agents.append(agent)
    trace.models += model
    if model or result:
        said = canonical_json([span.id, span.name, span.attributes, span.events])
        trace.digests.append(hashlib.sha256(said.encode()).hexdigest())
    if result:
        trace.results.append(result)
    trace.calls += calls


def _spans(raw: Any, alone: str) -> Iterator[Span]:
    """The spans of an OTLP request, or the one that a document is; `alone` names what has no name."""
    if not isinstance(raw, dict):
        raise ValueError("neither an OTLP request nor a span")
    requested = raw.get("resourceSpans", raw.get("resource_spans"))
    if requested is None and isinstance(raw.get("scopeSpans"), list):
        requested = [raw]
    if requested is None:
        yield _span(raw, alone)
        return
    for resource in _objects(requested):
        for scope in _objects(resource.get("scopeSpans") or resource.get("scope_spans") or []):
            for span in _objects(scope.get("spans") or []):
                yield _span(span, alone)


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of objects is missing where OTLP has one")
    return value


def _span(raw: dict[str, Any], alone: str) -> Span:
    """A span as OTLP, the SDKs of Python and JavaScript, or bare attributes write it."""
    attributes = raw.get("attributes")
    if attributes is None and "name" not in raw:
        return Span(trace=alone, id=alone, attributes=raw)
    named = raw.get("context") or raw.get("spanContext") or raw
    named = named if isinstance(named, dict) else raw
    status = raw.get("status")
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else None
    events = raw.get("events") or []
    return Span(
        trace=str(named.get("traceId") or named.get("trace_id") or alone),
        id=str(named.get("spanId") or named.get("span_id") or alone),
        parent=str(raw.get("parentSpanId") or raw.get("parent_span_id") or raw.get("parent_id") or "") or None,
        name=str(raw.get("name") or ""),
        attributes=_attributes(attributes),
        events=[(str(event.get("name")), _attributes(event.get("attributes"))) for event in _objects(events)],
        started_at=_moment(raw.get("startTimeUnixNano", raw.get("start_time", raw.get("startTime")))),
        ended_at=_moment(raw.get("endTimeUnixNano", raw.get("end_time", raw.get("endTime")))),
        failed=code in (2, "ERROR", "STATUS_CODE_ERROR"),
    )


def _attributes(value: Any) -> dict[str, Any]:
    """Attributes as plain values: OTLP lists them as keys and typed values."""
    if value is None or isinstance(value, dict):
        return value or {}
    return {str(item.get("key")): _plain(item.get("value")) for item in _objects(value)}


def _plain(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("an attribute's value is not an object, as it is in OTLP")
    for scalar in SCALARS:
        if scalar in value:
            return value[scalar]
    if "intValue" in value:  # a 64-bit integer, which OTLP writes as text
        return int(value["intValue"])
    if isinstance(items := value.get("arrayValue"), dict):
        return [_plain(item) for item in _objects(items.get("values") or [])]
    if isinstance(members := value.get("kvlistValue"), dict):
        return _attributes(members.get("values") or [])
    return None


def _moment(value: Any) -> datetime | None:
    """A time: nanoseconds since 1970 as a number or text, a pair of seconds and nanoseconds, or ISO text."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, int) for part in value):
        value = value[0] * 10**9 + value[1]
    if isinstance(value, str) and not value.isdecimal():
        return utc(value)
    if not isinstance(value, int | str) or not int(value):
        return None
    return EPOCH + timedelta(microseconds=int(value) // 1000)
