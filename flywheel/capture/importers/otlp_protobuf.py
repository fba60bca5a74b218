"""OTLP as protobuf: the spans and the log records of a request.

https://opentelemetry.io/docs/specs/otlp/#binary-protobuf-encoding
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flywheel.capture.importers import spans
from flywheel.capture.importers.otlp_json import REFUSED, Refused, moment
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.importers.spans import Span

FAILED = 2  # STATUS_CODE_ERROR


def traces(data: bytes) -> Iterator[Span | Refused]:
    """The spans of an ExportTraceServiceRequest. Raises DecodeError where it is none."""
    for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                try:
                    yield Span(
                        trace=_id(span.trace_id, 16, "trace_id"),
                        id=_id(span.span_id, 8, "span_id"),
                        parent=span.parent_span_id.hex() or None,
                        name=span.name,
                        attributes=_attributes(span.attributes),
                        events=[(event.name, _attributes(event.attributes)) for event in span.events],
                        started_at=moment(span.start_time_unix_nano),
                        ended_at=moment(span.end_time_unix_nano),
                        failed=span.status.code == FAILED,
                        error=span.status.message,
                        dropped=span.dropped_attributes_count,
                        resource=about,
                    )
                except REFUSED as error:
                    yield Refused(f"span {span.span_id.hex()[:40]}: {error}", _excerpt(span))


def logs(data: bytes) -> Iterator[Span | Refused | None]:
    """The GenAI events of an ExportLogsServiceRequest; None for a log record that is none.

    Raises DecodeError where it is no such request.
    """
    for resource in ExportLogsServiceRequest.FromString(data).resource_logs:
        about = _attributes(resource.resource.attributes)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                try:
                    attributes = _attributes(record.attributes)
                    yield spans.event(
                        record.event_name or str(attributes.get("event.name", "")),
                        attributes,
                        _plain(record.body),
                        trace=record.trace_id.hex(),
                        id=record.span_id.hex(),
                        at=moment(record.time_unix_nano or record.observed_time_unix_nano),
                        resource=about,
                    )
                except REFUSED as error:
                    yield Refused(f"log record: {error}", _excerpt(record))


def _id(value: bytes, length: int, what: str) -> str:
    if len(value) != length or not any(value):
        raise ValueError(f"its {what} is not {length} bytes that are not all zero")
    return value.hex()


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: Any) -> Any:
    """A typed value as a plain one; bytes as the text that OTLP's JSON has for them."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def _excerpt(message: Message) -> str:
    return str(message)[:EXCERPT]
