"""Spans of calls to models and tools, by the conventions of OpenTelemetry GenAI, OpenInference, OpenLLMetry and Vercel.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ (messages as attributes, as events, and as the indexed attributes of
before) and https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture.importers import dialects
from flywheel.capture.importers.attributes import indexed
from flywheel.capture.importers.conversations import EPOCH, Call, Result
from flywheel.schema import canonical_json, stable_id

OPERATIONS = frozenset({"chat", "text_completion", "generate_content"})
# Where any of these begins an attribute's name, the span tells what was said to a model.
SAID = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt", "gen_ai.completion", "llm.input_messages")
# Where messages are an attribute a member, and some attributes are gone, so are parts of what was said.
SPELLED = ("llm.input_messages.", "llm.output_messages.", "gen_ai.prompt.", "gen_ai.completion.")
# Attributes that name the agent and the session of a trace, whatever span has them.
AGENTS = ("gen_ai.agent.name", "agent.name")
SESSIONS = ("gen_ai.conversation.id", "session.id")
# Attributes that tell of a call or of a tool's run beside what was said.
KINDS = (
    "openinference.span.kind",
    "gen_ai.operation.name",
    "ai.operationId",
    "llm.request.type",
    "traceloop.span.kind",
)
MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "ai.model.id")
PROVIDERS = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
ASKED = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
ANSWERED = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
CALL_IDS = ("gen_ai.tool.call.id", "tool_call.id", "ai.toolCall.id")
TOOLS = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name")
RESPONSE = "gen_ai.response.id"
REQUEST = "gen_ai.request."
BESIDE = (RESPONSE, *KINDS, *MODELS, *PROVIDERS, *ASKED, *ANSWERED, *CALL_IDS, *TOOLS, *AGENTS, *SESSIONS)
# Which layers of a prompt were left out of a span, as JSON.
BOUNDARY = "flywheel.boundary"
# Events that carry attributes of the span, and those that are one message each.
DETAILS = frozenset({"gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion"})
EVENTS = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
CHOICE = "gen_ai.choice"
# Events that tell how good a span was; they are no part of what was said.
EVALUATION = "gen_ai.evaluation.result"
# The operations of Vercel, within each of which the requests are spans of their own.
VERCEL = ("generateText", "streamText", "generateObject", "streamObject")


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A span, its attributes as plain values, whatever it was written in.

    `error` is its status message, `resource` the attributes of what sent it (service.name), `dropped` how many of its
    attributes the SDK let go. A GenAI event that was logged apart from its span is one of the span's name with nothing
    but the event, `logged_at` its time.
    """

    trace: str
    id: str
    parent: str | None = None
    name: str = ""
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]] = []
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failed: bool = False
    error: str = ""
    resource: dict[str, Any] = {}
    logged_at: datetime | None = None
    dropped: int = 0

    def first(self, *names: str) -> Any:
        """The first of some attributes that is there."""
        return next((v for name in names if (v := self.attributes.get(name)) is not None), None)

    def text(self, *names: str) -> str:
        """The first of some attributes, as text; empty where there is none."""
        value = self.first(*names)
        return "" if value is None else str(value)


def is_model(span: Span) -> bool:
    """Whether a span is one request to a model, not an agent, a tool, an embedding, or a span around requests."""
    for name, kinds in (
        ("openinference.span.kind", {"LLM"}),
        ("gen_ai.operation.name", OPERATIONS),
        ("ai.operationId", {f"ai.{d}.{o}" for d in VERCEL for o in ("doGenerate", "doStream")}),
        ("llm.request.type", {"chat", "completion"}),
        ("traceloop.span.kind", set[str]()),
    ):
        if kind := span.text(name):
            return kind in kinds
    return any(a.startswith(SAID) for a in span.attributes) or any(is_event(name) for name, _ in span.events)


def is_event(name: str) -> bool:
    """Whether an event tells what was said to or by a model."""
    return name in EVENTS or name in DETAILS or name == CHOICE


def event(
    name: str,
    attributes: dict[str, Any],
    body: Any,
    *,
    trace: str,
    id: str,
    at: datetime | None,
    resource: dict[str, Any],
    alone: str = "",
) -> Span | None:
    """A log record as a part of its span; None where it is no GenAI event.

    Raises ValueError for a single message that names no span: nobody can tell what it belongs to.
    """
    if not is_event(name) and name != EVALUATION:
        return None
    held = body if isinstance(body, dict) else {} if body is None else {"content": body}
    said = {**attributes, **held}
    answered = name == EVALUATION and trace and said.get(RESPONSE)
    if not id and name not in DETAILS and not answered:
        raise ValueError(f"a {name} event names no span")
    if not id:  # the details of a call say everything there is of it
        id = stable_id(alone, name, canonical_json(said), str(at))[:16]
    return Span(
        trace=trace or id, id=id, attributes={}, events=[(name, said)], resource=resource, logged_at=at or EPOCH
    )


def kept(span: Span) -> Span:
    """A span as far as conversations are read from it: whole where it is a call of a model or of a tool.

    Of any other stay its ids, which tell what is around what, the names of its agent and session, and how it was
    evaluated.
    """
    if is_model(span) or result(span) or span.logged_at:
        return span
    evaluated = [event for event in span.events if event[0] == EVALUATION]
    about = {name: span.attributes[name] for name in (*AGENTS, *SESSIONS) if name in span.attributes}
    return Span(
        trace=span.trace,
        id=span.id,
        parent=span.parent,
        attributes=about,
        events=evaluated,
        started_at=span.started_at if about or evaluated else None,
        ended_at=span.ended_at if evaluated else None,
        resource=span.resource if about else {},
    )


def calls(span: Span) -> list[Call]:
    """The call that a span tells of: one for each answer where several were asked for; none without messages.

    Raises ValueError where messages are malformed.
    """
    if not is_model(span):
        return []
    for event, attributes in span.events:
        if event in DETAILS:
            span = msgspec.structs.replace(span, attributes={**attributes, **span.attributes})
    if span.dropped and any(name.startswith(SPELLED) for name in span.attributes):
        if span.first("input.value") is None or span.first("output.value") is None:
            raise ValueError(
                f"the SDK dropped {span.dropped} of its attributes, and messages with them: set "
                "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=10000 for the agent"
            )
        said = {name: value for name, value in span.attributes.items() if not name.startswith(SPELLED)}
        span = msgspec.structs.replace(span, attributes=said)
    messages, answers = _messages(span), _answers(span)
    if not messages and not answers:
        return []
    return [
        Call(
            id=span.id if number == 0 else f"{span.id}#{number}",
            messages=messages,
            answer=answer,
            tools=_tools(span),
            model=span.text(*MODELS),
            provider=span.text(*PROVIDERS),
            prompt_tokens=_count(span, *ASKED),
            completion_tokens=_count(span, *ANSWERED),
            started_at=span.started_at,
            ended_at=span.ended_at,
            failed=span.failed,
            error=span.error,
            details=_details(span, number),
        )
        for number, answer in enumerate(answers or [[]])
    ]


def result(span: Span) -> Result | None:
    """What a tool gave, where a span is the run of a tool."""
    kinds = span.text("openinference.span.kind", "gen_ai.operation.name", "ai.operationId", "traceloop.span.kind")
    if kinds not in ("TOOL", "execute_tool", "ai.toolCall", "tool"):
        return None
    content = span.first(
        "gen_ai.tool.call.result", "ai.toolCall.result", "output.value", "traceloop.entity.output", "output"
    )
    return Result(
        tool_call_id=span.text(*CALL_IDS) or None,
        name=span.text(*TOOLS) or span.name,
        content="" if content is None else dialects.as_text(content),
        at=span.ended_at,
        failed=span.failed,
    )


def _messages(span: Span) -> list[dialects.Message]:
    before: list[dialects.Message] = []
    if given := dialects.decoded(span.first("gen_ai.system_instructions")):
        before = dialects.messages([{"role": "system", "content" if isinstance(given, str) else "parts": given}])
    for value in (
        span.first("gen_ai.input.messages"),
        indexed(span.attributes, "gen_ai.prompt"),
        span.first("gen_ai.prompt"),
        indexed(span.attributes, "llm.input_messages"),
        [message_of(EVENTS[name], attributes) for name, attributes in span.events if name in EVENTS],
        span.first("ai.prompt.messages"),
        span.first("input.value"),
    ):
        if value:
            return before + dialects.messages(value)
    return before


def _answers(span: Span) -> list[list[dialects.Message]]:
    """The answers of a call, one for each choice."""
    choices = [message_of("assistant", attributes) for name, attributes in span.events if name == CHOICE]
    for value in (
        dialects.decoded(span.first("gen_ai.output.messages")),
        indexed(span.attributes, "gen_ai.completion"),
        dialects.decoded(span.first("gen_ai.completion")),
        choices,
    ):
        if value:
            every = value if isinstance(value, list) else [value]
            return [dialects.messages([choice], "assistant") for choice in every]
    if written := indexed(span.attributes, "llm.output_messages"):
        # Several messages are choices of OpenAI chat, or the parts of one answer of OpenAI Responses.
        raw = dialects.decoded(span.first("output.value"))
        if isinstance(raw, dict) and "choices" in raw:
            return [dialects.messages([choice], "assistant") for choice in written]
        return [dialects.messages(written, "assistant")]
    said, done = span.first("ai.response.text", "ai.response.object"), span.first("ai.response.toolCalls")
    if said or done:
        message = {"role": "assistant", "content": said or "", "tool_calls": dialects.decoded(done)}
        return [dialects.messages([message])]
    value = span.first("output.value")
    return [dialects.messages(value, "assistant")] if value else []


def _details(span: Span, number: int) -> dict[str, Any]:
    """What else is known of an answer: why it ended, its id, and how it was asked for."""
    told = dialects.decoded(span.first("gen_ai.output.messages"))
    reasons = dialects.decoded(span.first("gen_ai.response.finish_reasons", "ai.response.finishReason"))
    for answers in (
        told,
        indexed(span.attributes, "gen_ai.completion"),
        [attributes for name, attributes in span.events if name == CHOICE],
        [{"finish_reason": reason} for reason in (reasons if isinstance(reasons, list) else [reasons])],
    ):
        answer = answers[number] if isinstance(answers, list) and number < len(answers) else None
        if reason := answer.get("finish_reason") if isinstance(answer, dict) else None:
            break
    else:
        reason = None
    asked = {
        n.removeprefix(REQUEST): v for n, v in span.attributes.items() if n.startswith(REQUEST) and n not in MODELS
    }
    given = dialects.decoded(span.first("llm.invocation_parameters"))
    parameters = asked or (given if isinstance(given, dict) else {})
    details = {"finish_reason": reason, "response_id": span.first(RESPONSE, "ai.response.id"), "parameters": parameters}
    return {name: value for name, value in details.items() if value}


def message_of(role: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """The message that an event is; a choice has it as `message`."""
    held = dialects.decoded(attributes.get("message"))
    message = held if isinstance(held, dict) else attributes
    return {"role": role, "content": held if isinstance(held, str) else None} | message


def _tools(span: Span) -> list[dict[str, Any]]:
    written = indexed(span.attributes, "llm.tools")
    schemas = [t["tool"].get("json_schema") for t in written if isinstance(t, dict) and isinstance(t.get("tool"), dict)]
    return (
        dialects.tools(span.first("gen_ai.tool.definitions"))
        or dialects.tools(schemas)
        or dialects.tools(indexed(span.attributes, "llm.request.functions"))
        or dialects.tools(span.first("ai.prompt.tools"))
    )


def _count(span: Span, *names: str) -> int | None:
    value = span.first(*names)
    return int(value) if isinstance(value, int | str) else None
