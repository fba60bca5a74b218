"""OpenTelemetry as JSON: OTLP requests (`resourceSpans`, `resourceLogs`), one a line or one a file, and spans alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from flywheel.capture.importers import documents, halves, otlp_json, spans, trace
from flywheel.capture.importers.otlp_json import REFUSED, Refused
from flywheel.capture.importers.records import EXCERPT, Bad, Origin, Record
from flywheel.capture.importers.spans import Span
from flywheel.capture.importers.trace import Trace
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError

NAME = "otlp"
# As the name of a member: within a text it would stand after a backslash.
MARK = re.compile(
    rb'(?<!\\)"(?:resource_?(?:Spans|spans|Logs|logs)|openinference\.span\.kind|gen_ai\.[a-z_.]+|ai\.operationId)"\s*:'
)
SPANS = msgspec.json.Decoder(Span)


class Seen(msgspec.Struct):
    """Where the spans of a trace lie among those set by while a file is read, and where the file first told of it."""

    line: int
    excerpt: str
    places: list[tuple[int, int]] = []


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds spans."""
    return MARK.search(head) is not None


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file's traces, whose spans and events may stand anywhere in it.

    A trace without a call of a model has none. Spans are set by in a nameless file: memory holds one trace.
    """
    with documents.opened(path) as data, documents.Aside() as aside:
        size, refused = len(data), False
        traces: dict[str, Seen] = {}
        for index, piece in enumerate(documents.records(data)):
            excerpt = piece.data[:EXCERPT].decode("utf-8", "replace")
            try:
                if piece.cut:
                    raise ValueError("the file breaks off or goes on where a record should end")
                raw = halves.decoded(piece.data)
                for span in otlp_json.read(raw, hashlib.sha256(piece.data).hexdigest()[:32]):
                    if isinstance(span, Refused):
                        refused = True
                        yield Bad(piece.line, f"record {index + 1}, {span.error}", span.excerpt, piece.end)
                    elif span:
                        seen = traces.setdefault(span.trace, Seen(piece.line, excerpt))
                        seen.places.append(aside.put(msgspec.json.encode(spans.kept(span))))
            except REFUSED as error:
                refused = True
                yield Bad(piece.line, f"record {index + 1}: {error}", excerpt, piece.end)
        told = 0
        for id, seen in traces.items():
            whole = trace.of(SPANS.decode(aside.get(place)) for place in seen.places)
            for name, error in whole.bad:
                refused = True
                yield Bad(seen.line, f"trace {id}, span {name}: {error}", seen.excerpt, size)
            for one in whole.evaluations:
                if one.conversation is None:
                    refused = True
                    said = f"its evaluation {one.name!r} is of span {one.span}, which no conversation of the file has"
                    yield Bad(seen.line, f"trace {id}: {said}", seen.excerpt, size)
            if whole.models:
                origin = Origin(
                    format=NAME,
                    workspace=workspace,
                    arrived_at=arrived_at,
                    path=path,
                    line=seen.line,
                    index=told,
                    digest=whole.digest,
                )
                told += 1
                yield from _made(whole, origin, seen, size)
        if not told and not refused:
            first = next(iter(traces.values()), Seen(1, ""))
            yield Bad(first.line, "no span of the file is a call of a model", first.excerpt, size)


def _made(whole: Trace, origin: Origin, seen: Seen, end: int) -> list[Record | Bad]:
    try:
        if not whole.conversations and not whole.bad:
            raise ValueError("its calls of a model tell of no messages: was the capture of content switched on?")
        made: list[Record | Bad] = []
        for number, conversation in enumerate(whole.conversations):
            trajectory = origin.trajectory(
                also=conversation.last.id, metadata=whole.metadata(conversation), **whole.fields(conversation)
            )
            outcomes = [
                origin.outcome(
                    trajectory, one.name, one.value, step_index=one.step, observed_at=one.at, comment=one.comment
                )
                for one in whole.evaluations
                if one.conversation == number
            ]
            made.append(Record(checked(trajectory), tuple(map(checked, outcomes)), end))
        return made
    except (*REFUSED, FlywheelError) as error:
        return [Bad(seen.line, f"trace {whole.id}: {error}", seen.excerpt, end)]
