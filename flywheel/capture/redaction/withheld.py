"""Withheld: spans without the layers of prompts that a workspace does not keep, before they are written anywhere."""

from __future__ import annotations

from typing import Any

import msgspec

from flywheel.capture.importers import dialects, spans
from flywheel.capture.importers.spans import Span
from flywheel.capture.redaction.boundary import Boundary
from flywheel.schema import canonical_json


def withheld(span: Span, boundary: Boundary) -> Span:
    """A span as `spans.kept` leaves it, without what is not kept; a tool is known by its name where that is told here.

    A prompt may be told several times over, in any attribute: of what is left, all is told anew, once.
    Raises ValueError where messages are malformed.
    """
    if boundary.keeps_all:
        return span
    events: list[tuple[str, dict[str, Any]]] = []
    if span.logged_at is not None:  # nothing but an event
        for name, said in span.events:
            events += _event(name, said, span, boundary)
        return msgspec.structs.replace(span, events=events)
    if spans.is_model(span):
        return msgspec.structs.replace(span, attributes=_call(span, boundary), events=_scores(span))
    if found := spans.result(span):
        [message] = boundary.messages([{"role": "tool", "name": found.name, "content": found.content}])
        attributes = _beside(span) | {"gen_ai.tool.call.result": message["content"]}
        return msgspec.structs.replace(span, attributes=attributes, events=_scores(span))
    return span


def _scores(span: Span) -> list[tuple[str, dict[str, Any]]]:
    return [event for event in span.events if event[0] == spans.EVALUATION]


def _call(span: Span, boundary: Boundary) -> dict[str, Any]:
    """The attributes of a call: what is beside its messages, and these as `spans.calls` reads them."""
    attributes = _beside(span)
    calls = spans.calls(span)
    if not calls:
        return attributes
    asked = calls[0].messages
    if messages := boundary.messages(asked):
        attributes["gen_ai.input.messages"] = canonical_json(messages)
    answers = [boundary.messages([*asked, *call.answer], len(asked)) for call in calls if call.answer]
    if any(len(answer) > 1 for answer in answers):
        attributes["output.value"] = canonical_json(answers[0])  # one answer of several messages
    elif answers:
        attributes["gen_ai.output.messages"] = canonical_json([message for answer in answers for message in answer])
    if any(reasons := [call.details.get("finish_reason") for call in calls]):
        attributes["gen_ai.response.finish_reasons"] = reasons
    if tools := boundary.tools(calls[0].tools):
        attributes["gen_ai.tool.definitions"] = canonical_json(tools)
    elif calls[0].tools:
        told = {"tool_schemas": boundary.about()["tool_schemas"]}  # messages are counted when they are settled
        attributes[spans.BOUNDARY] = canonical_json(told)
    return attributes


def _beside(span: Span) -> dict[str, Any]:
    return {name: span.attributes[name] for name in spans.BESIDE if name in span.attributes}


def _event(name: str, said: dict[str, Any], span: Span, boundary: Boundary) -> list[tuple[str, dict[str, Any]]]:
    """A GenAI event that was logged apart from its span: the details of a call, a message, or a score."""
    if name == spans.EVALUATION:
        return [(name, said)]
    if name in spans.DETAILS:
        whole = msgspec.structs.replace(span, attributes=said, events=[], logged_at=None)
        return [(name, _call(whole, boundary))]
    role = spans.EVENTS.get(name, "assistant")
    beside = {key: said[key] for key in ("index", "finish_reason") if name == spans.CHOICE and key in said}
    return [(name, beside | m) for m in boundary.messages(dialects.messages([spans.message_of(role, said)], role))]
