"""OTLP as JSON: the spans and the log records of a request, and spans as the SDKs of Python and JavaScript print them.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flywheel.capture.importers import spans
from flywheel.capture.importers.conversations import EPOCH
from flywheel.capture.importers.records import EXCERPT, utc
from flywheel.capture.importers.spans import Span

SCALARS = ("stringValue", "boolValue", "doubleValue", "bytesValue")
REFUSED = (ValueError, OverflowError, RecursionError)


class Refused(msgspec.Struct, frozen=True):
    """A span or a log record that cannot be read: what is wrong with it, and how it begins."""

    error: str
    excerpt: str


def read(raw: Any, alone: str = "") -> Iterator[Span | Refused | None]:
    """The spans and GenAI events of a request, or the one that a document is; `alone` names what has no name.

    An event is a span of which nothing else is known; a log record that is no GenAI event is None. Raises ValueError
    where there is neither.
    """
    if not isinstance(raw, dict):
        raise ValueError("neither an OTLP request nor a span")
    requested = False
    for names, scopes, items, make in (
        (("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans",), _span),
        (("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records"), _event),
    ):
        found = _either(raw, *names)
        if found is None and isinstance(_either(raw, *scopes), list):
            found = [raw]
        if found is not None:
            requested = True
            yield from _each(found, scopes, items, make, alone)
    if not requested:
        yield from _made(_event if "eventName" in raw or "event_name" in raw else _span, raw, {}, alone)


Make = Callable[[dict[str, Any], dict[str, Any], str], Span | None]


def _each(
    resources: Any, scopes: tuple[str, ...], items: tuple[str, ...], make: Make, alone: str
) -> Iterator[Span | Refused | None]:
    for resource in _objects(resources):
        about = resource.get("resource")
        attributes = _attributes(about.get("attributes")) if isinstance(about, dict) else {}
        for scope in _objects(_either(resource, *scopes) or []):
            listed = _either(scope, *items) or []
            if not isinstance(listed, list):
                raise ValueError("a list of objects is missing where OTLP has one")
            for item in listed:
                yield from _made(make, item, attributes, alone)


def _made(make: Make, raw: Any, resource: dict[str, Any], alone: str) -> Iterator[Span | Refused | None]:
    try:
        if not isinstance(raw, dict):
            raise ValueError("not an object")
        made = make(raw, resource, alone)
    except REFUSED as error:
        name = raw.get("spanId", raw.get("span_id", "")) if isinstance(raw, dict) else ""
        yield Refused(f"span {str(name)[:40]}: {error}", _excerpt(raw))
    else:
        yield made


def _excerpt(raw: Any) -> str:
    try:
        return msgspec.json.encode(raw)[:EXCERPT].decode("utf-8", "replace")
    except REFUSED:
        return ""


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of objects is missing where OTLP has one")
    return value


def _either(raw: dict[str, Any], *names: str) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _span(raw: dict[str, Any], resource: dict[str, Any], alone: str) -> Span:
    """A span as OTLP, the SDKs of Python and JavaScript, or bare attributes write it."""
    attributes = raw.get("attributes")
    if attributes is None and "name" not in raw:
        return Span(trace=alone, id=alone, attributes=raw)
    named = raw.get("context") or raw.get("spanContext") or raw
    named = named if isinstance(named, dict) else raw
    status = raw.get("status")
    status = status if isinstance(status, dict) else {}
    about = raw.get("resource")
    about = about.get("attributes") if isinstance(about, dict) else None
    return Span(
        trace=_id(_either(named, "traceId", "trace_id")) or alone,
        id=_id(_either(named, "spanId", "span_id")) or alone,
        parent=_id(_either(raw, "parentSpanId", "parent_span_id", "parent_id")) or None,
        name=str(raw.get("name") or ""),
        attributes=_attributes(attributes),
        events=[
            (str(event.get("name")), _attributes(event.get("attributes")))
            for event in _objects(raw.get("events") or [])
        ],
        started_at=moment(_either(raw, "startTimeUnixNano", "start_time", "startTime")),
        ended_at=moment(_either(raw, "endTimeUnixNano", "end_time", "endTime")),
        failed=_either(status, "code", "status_code") in (2, "ERROR", "STATUS_CODE_ERROR"),
        error=str(_either(status, "message", "description") or ""),
        dropped=_count(raw.get("droppedAttributesCount")),
        resource=resource or (about if isinstance(about, dict) else {}),
    )


def _event(raw: dict[str, Any], resource: dict[str, Any], alone: str) -> Span | None:
    """A log record that is a GenAI event."""
    attributes, body = _attributes(raw.get("attributes")), raw.get("body")
    if isinstance(body, dict) and any(name.endswith("Value") for name in body):
        body = plain(body)
    name = _either(raw, "eventName", "event_name") or attributes.get("event.name")
    return spans.event(
        str(name or ""),
        attributes,
        body,
        trace=_id(_either(raw, "traceId", "trace_id")),
        id=_id(_either(raw, "spanId", "span_id")),
        at=moment(_either(raw, "timeUnixNano", "timestamp") or 0)
        or moment(_either(raw, "observedTimeUnixNano", "observed_timestamp") or 0),
        resource=resource,
        alone=alone,
    )


def _attributes(value: Any) -> dict[str, Any]:
    """Attributes as plain values: OTLP lists them as keys and typed values."""
    if value is None or isinstance(value, dict):
        return value or {}
    return {str(item.get("key")): plain(item.get("value")) for item in _objects(value)}


def plain(value: Any) -> Any:
    """A typed value of OTLP as a plain one. Raises ValueError where it is none."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("an attribute's value is not an object, as it is in OTLP")
    for scalar in SCALARS:
        if scalar in value:
            return value[scalar]
    if isinstance(number := value.get("intValue"), int | str):  # a 64-bit integer, which OTLP writes as text
        return int(number)
    if isinstance(items := value.get("arrayValue"), dict):
        return [plain(item) for item in _objects(items.get("values") or [])]
    if isinstance(members := value.get("kvlistValue"), dict):
        return _attributes(members.get("values") or [])
    return None


def _id(value: Any) -> str:
    """A name in hexadecimal digits, which OTLP compares without case and the SDK of Python prints as `0x…`.

    One of zeros alone stands for none.
    """
    text = str(value or "").lower().removeprefix("0x")
    return text if text.strip("0") else ""


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else 0


def moment(value: Any) -> datetime | None:
    """A time: nanoseconds since 1970 as a number or text, a pair of seconds and nanoseconds, or ISO text."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, int) for part in value):
        value = value[0] * 10**9 + value[1]
    if isinstance(value, str) and not value.isdecimal():
        return utc(value) if value else None
    if not isinstance(value, int | str) or not int(value):
        return None
    return EPOCH + timedelta(microseconds=int(value) // 1000)
