"""Traces: the spans and logged events of one trace, as the conversations with models that they tell of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from flywheel.capture.importers import dialects, evaluations, spans
from flywheel.capture.importers.conversations import EPOCH, Call, Conversation, Result, innermost, joined, span_of
from flywheel.capture.importers.evaluations import Evaluation
from flywheel.capture.importers.otlp_json import REFUSED
from flywheel.capture.importers.spans import AGENTS, SESSIONS, Span
from flywheel.schema import canonical_json


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace tells; the same whatever the order in which its spans came, and however often.

    `models` counts its calls of a model, with and without messages. `bad` are spans that cannot be read, each with
    the reason. `digest` is that of its calls of models and tools; `evaluations`, which may come any time later, are no
    part of it. `left_out` says which layers of its prompt a span has no more.
    """

    id: str
    conversations: list[Conversation]
    agent: str
    agent_version: str
    session: str | None
    models: int
    bad: list[tuple[str, str]]
    digest: str
    evaluations: list[Evaluation]
    left_out: dict[str, dict[str, Any]] = {}

    def fields(self, conversation: Conversation) -> dict[str, Any]:
        """The fields of the trajectory that a conversation is, without its metadata."""
        return {**conversation.fields(agent=self.agent), "agent_version": self.agent_version}

    def metadata(self, conversation: Conversation) -> dict[str, Any]:
        """What goes into the metadata of the trajectory that a conversation is; what is None is not known."""
        return {
            "trace": self.id,
            "session": self.session,
            "spans": sorted(conversation.answers),
            "error": conversation.last.error or None,
            "boundary": self._left_out(conversation) or None,
        }

    def _left_out(self, conversation: Conversation) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for call in sorted({*conversation.answers, conversation.last.id}):
            found |= self.left_out.get(call.partition("#")[0], {})
        return found


def of(told: Iterable[Span]) -> Trace:
    """The trace that spans and events tell of, which are all of one trace."""
    parts = _once(told)
    whole = merged(parts)
    calls: list[Call] = []
    results: list[Result] = []
    bad: list[tuple[str, str]] = []
    scores: list[Evaluation] = []
    for part in parts:
        try:
            scores += evaluations.of(part)
        except REFUSED as error:
            bad.append((part.id, str(error)))
    digests: set[str] = set()
    models = 0
    for span in whole:
        model = spans.is_model(span)
        models += model
        try:
            result = spans.result(span)
            calls += filter(_says, spans.calls(span))
        except REFUSED as error:
            bad.append((span.id, str(error)))
            continue
        results += [result] if result else []
        if model or result:
            said = canonical_json([span.id, span.name, span.attributes, span.events])
            digests.add(hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest())
    parents = {span.id: span.parent for span in whole}
    calls = innermost(calls, parents)
    try:
        conversations = joined(calls, results)
    except REFUSED:
        good = []
        for call in calls:
            try:
                joined([call])
                good.append(call)
            except REFUSED as error:
                bad.append((span_of(call), str(error)))
        conversations = joined(good, results)
    responses = {id: span.id for span in whole[::-1] if (id := span.text(spans.RESPONSE))}
    services = [span.resource for span in whole if str(span.resource.get("service.name") or "unknown")[:7] != "unknown"]
    service = services[0] if services else {}
    return Trace(
        id=whole[0].trace if whole else "",
        conversations=conversations,
        agent=_first(whole, *AGENTS) or str(service.get("service.name") or ""),
        agent_version=str(service.get("service.version") or ""),
        session=_first(whole, *SESSIONS) or None,
        models=models,
        bad=bad,
        left_out={span.id: _told(span) for span in whole if spans.BOUNDARY in span.attributes},
        digest=hashlib.sha256(canonical_json(sorted(digests)).encode()).hexdigest(),
        evaluations=evaluations.placed(scores, conversations, parents, responses),
    )


def _says(call: Call) -> bool:
    """Whether anything is said in a call: where content is not captured, older events tell of roles alone."""
    said = ("content", "reasoning_content", "tool_calls", "function_call")
    return any(message.get(part) for message in (*call.messages, *call.answer) for part in said)


def _told(span: Span) -> dict[str, Any]:
    """Which layers were left out of a span; whatever else stands there says nothing."""
    told = dialects.decoded(span.text(spans.BOUNDARY))
    return told if isinstance(told, dict) else {}


def _once(told: Iterable[Span]) -> list[Span]:
    """What was told, without what was sent again."""
    return list({hashlib.sha256(msgspec.json.encode(span, order="sorted")).digest(): span for span in told}.values())


def merged(parts: Iterable[Span]) -> list[Span]:
    """One span an id, with the events that were logged apart, in order of time."""
    of_id: dict[str, list[Span]] = {}
    for part in parts:
        of_id.setdefault(part.id, []).append(part)
    return sorted(
        (_whole(parts) for parts in of_id.values()), key=lambda s: (s.started_at or s.logged_at or EPOCH, s.id)
    )


def _whole(parts: Sequence[Span]) -> Span:
    """One span of its parts: the span itself, if it came, and its events."""
    parts = sorted(parts, key=lambda part: (part.logged_at is not None, part.logged_at or part.ended_at or EPOCH))
    events = [event for part in parts if part is parts[0] or part.logged_at for event in part.events]
    # What the span says itself counts more than what an event says of it.
    attributes: dict[str, Any] = {}
    for part in parts:
        attributes = {**part.attributes, **attributes}
    for name, said in events:
        if name in spans.DETAILS:
            attributes = {**said, **attributes}
    events = [event for event in events if event[0] not in spans.DETAILS and event[0] != spans.EVALUATION]
    return msgspec.structs.replace(parts[0], attributes=attributes, events=events)


def _first(whole: Sequence[Span], *names: str) -> str:
    """The first of some attributes that a span has; spans are in the order in which they began."""
    return next((text for span in whole if (text := span.text(*names))), "")
