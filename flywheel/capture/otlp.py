"""OTLP requests: protobuf or JSON in, redacted spans and GenAI events for the journal out, and what was refused.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, Literal

import msgspec
from google.protobuf.message import DecodeError

from flywheel.capture.importers import evaluations, otlp_json, otlp_protobuf, spans
from flywheel.capture.importers.otlp_json import REFUSED, Refused
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.importers.spans import Span
from flywheel.capture.redaction.boundary import Boundary, whole
from flywheel.capture.redaction.redact import Redactor
from flywheel.capture.redaction.withheld import withheld
from flywheel.schema import FlywheelError, Quarantined

Kind = Literal["traces", "logs"]
REMEMBERED = 10_000  # spans whose events may still come, with the placeholders that were given in them
# What a redactor sees first it numbers first. A history must be numbered alike in each call that repeats it, so
# attributes go in the order in which they are said, and what differs from call to call comes last.
SPOKEN = (
    ("gen_ai.system_instructions",),
    ("gen_ai.input.messages", "gen_ai.prompt", "llm.input_messages", "ai.prompt", "input.value"),
    ("gen_ai.output.messages", "gen_ai.completion", "llm.output_messages", "ai.response", "output.value"),
)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a request held: spans to keep, redacted; what was refused, redacted; and how many log records say nothing
    of a model."""

    spans: list[Span]
    refused: list[Refused]
    passed_over: int = 0


class Receiver:
    """Reads the requests of one workspace, from any number of threads; `redactor` and `boundary` make one a span.

    Events that are logged apart from their span share its redactor, however many requests they come in.
    """

    def __init__(self, redactor: Callable[[], Redactor], boundary: Callable[[], Boundary] = whole) -> None:
        self._redactor, self._boundary = redactor, boundary
        self._open: OrderedDict[tuple[str, str], Redactor] = OrderedDict()
        self._lock = Lock()

    def take(self, kind: Kind, data: bytes, *, as_json: bool) -> Taken:
        """What a body of one of the two kinds holds. Raises FlywheelError where it is no such request."""
        found = _from_json(kind, data) if as_json else _from_protobuf(kind, data)
        kept: list[Span] = []
        refused: list[Refused] = []
        passed_over = 0
        for one in found:
            if one is None:
                passed_over += 1
                continue
            if isinstance(one, Refused):
                refused.append(self._told(one))
                continue
            try:
                kept.append(self._kept(one))
            except REFUSED as error:
                excerpt = _json([one.name, one.attributes, one.events])[:EXCERPT]
                refused.append(self._told(Refused(f"span {one.id[:40]}: {error}", excerpt)))
        return Taken(spans=kept, refused=refused, passed_over=passed_over)

    def _kept(self, span: Span) -> Span:
        if not span.trace or not span.id:
            raise ValueError("it names no trace or no span")
        span = spans.kept(span)
        spans.calls(span)  # raises where its messages cannot be read: who sent it is told at once
        if span.logged_at:
            evaluations.of(span)
        span = withheld(span, self._boundary())
        made = _redacted(span, self._shared(span) if span.logged_at else self._redactor())
        msgspec.json.encode(made)  # raises for numbers that JSON does not have
        return made

    def _told(self, refused: Refused) -> Refused:
        redactor = self._redactor()
        return Refused(redactor.text(refused.error), redactor.excerpt(refused.excerpt, EXCERPT))

    def _shared(self, span: Span) -> Redactor:
        with self._lock:
            redactor = self._open.setdefault((span.trace, span.id), self._redactor())
            self._open.move_to_end((span.trace, span.id))
            if len(self._open) > REMEMBERED:
                self._open.popitem(last=False)
            return redactor


def _redacted(span: Span, redactor: Redactor) -> Span:
    """A span without secrets in any of its texts."""
    order = sorted(span.attributes, key=_spoken)
    attributes = {name: _clean(name, span.attributes[name], redactor) for name in order}
    return msgspec.structs.replace(
        span,
        name=redactor.text(span.name),
        attributes={redactor.text(name): attributes[name] for name in span.attributes},
        events=[
            (redactor.text(name), {redactor.text(k): _clean(k, v, redactor) for k, v in said.items()})
            for name, said in span.events
        ],
        error=redactor.text(span.error),
        resource={redactor.text(k): _clean(k, v, redactor) for k, v in span.resource.items()},
    )


def _spoken(name: str) -> int:
    return next((rank for rank, names in enumerate(SPOKEN) if name.startswith(names)), len(SPOKEN))


def _clean(name: str, value: Any, redactor: Redactor) -> Any:
    """A value without secrets; its name may tell that it is one."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return redactor.text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return next(iter(msgspec.json.decode(redactor.json(_json({name: value}))).values()))
    return msgspec.json.decode(redactor.json(_json(value)))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _from_json(kind: Kind, data: bytes) -> list[Span | Refused | None]:
    names = ("resourceSpans", "resource_spans") if kind == "traces" else ("resourceLogs", "resource_logs")
    try:
        raw = _decoded(data)
        if not isinstance(raw, dict):
            raise ValueError("it is not an object")
        told = {name: raw[name] for name in names if name in raw}
        return list(otlp_json.read(told)) if told else []
    except REFUSED as error:
        raise FlywheelError(f"this is no OTLP request for {kind} in JSON: {error}") from error


def _decoded(data: bytes) -> Any:
    """JSON; half of a character that was cut apart, as JavaScript writes it, becomes a question mark."""
    try:
        return msgspec.json.decode(data)
    except ValueError:
        if b"\\ud" not in data and b"\\uD" not in data:
            raise
        return msgspec.json.decode(_json(json.loads(data)).encode("utf-8", "replace"))


def _from_protobuf(kind: Kind, data: bytes) -> list[Span | Refused | None]:
    try:
        return list(otlp_protobuf.traces(data) if kind == "traces" else otlp_protobuf.logs(data))
    except DecodeError as error:
        raise FlywheelError(f"this is no OTLP request for {kind} in protobuf: {error}") from error


def quarantined(workspace: str, kind: Kind, refused: Sequence[Refused], now: datetime) -> list[Quarantined]:
    """What was refused, redacted, as it goes into the quarantine."""
    return [
        Quarantined(
            workspace=workspace,
            source=f"otlp/{kind}",
            line=None,
            error=one.error,
            excerpt=one.excerpt,
            arrived_at=now,
        )
        for one in refused
    ]
