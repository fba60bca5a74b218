"""Langfuse trace exports: a trace with its observations and scores (langfuse.com/docs/api, `GET /traces/ID`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import dialects, documents, records
from flywheel.capture.importers.conversations import Call, Conversation, Result, innermost, joined
from flywheel.capture.importers.records import Bad, Made, Origin, Record, utc
from flywheel.schema import Outcome, Trajectory

NAME = "langfuse"


class Score(msgspec.Struct, rename="camel"):
    """A verdict on the trace, or on one of its observations. A category has a text and maybe no value."""

    name: str
    value: float | str | None = None
    string_value: str | None = None
    observation_id: str | None = None
    timestamp: str | None = None


class Observation(msgspec.Struct, rename="camel"):
    """A call of a model or a tool, or a span around some."""

    id: str
    type: str
    parent_observation_id: str | None = None
    name: str | None = None
    input: Any = None
    output: Any = None
    model: str | None = None
    metadata: Any = None
    usage_details: dict[str, Any] | None = None
    start_time: str | None = None
    end_time: str | None = None
    level: str | None = None


class Trace(msgspec.Struct, rename="camel"):
    """The trace itself. Its input and output repeat those of its observations and are not read."""

    id: str
    name: str | None = None
    session_id: str | None = None
    release: str | None = None
    version: str | None = None
    environment: str | None = None
    scores: list[Score] = []
    observations: list[Any] = []


class Export(msgspec.Struct):
    """A trace with its observations beside it; some exports have them inside."""

    trace: Trace
    observations: list[Observation]


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds Langfuse traces."""
    return b'"projectId"' in head and (b'"observations"' in head or b'"traceId"' in head or b'"scores"' in head)


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file: of one trace, a list of traces, or traces one a line."""
    with documents.opened(path) as data:
        yield from records.read_each(
            documents.records(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> list[Made]:
    if isinstance(raw, dict) and "trace" not in raw:
        raw = {"trace": raw, "observations": raw.get("observations")}
    export = msgspec.convert(raw, Export)
    calls = [call(o) for o in export.observations if o.type == "GENERATION"]
    parents = {o.id: o.parent_observation_id for o in export.observations}
    calls = innermost([c for c in calls if c.messages or c.answer], parents)
    # Frameworks that know no tools log a tool's run as a span of its own, whose output names the call.
    results = [result for o in export.observations if (result := _result(o))]
    found = joined(calls, results)
    if not found:
        raise ValueError("the trace has no generation with messages")
    trace = export.trace
    made: list[Made] = []
    for conversation in found:
        main = conversation is found[0]
        mine = [s for s in trace.scores if (_step(s, conversation) is not None if s.observation_id else main)]
        if main:
            known = {id for c in found for id in c.answers}
            mine += [s for s in trace.scores if s.observation_id and s.observation_id not in known]
        categories = {s.name: text for s in mine if _value(s) is None and (text := s.string_value or s.value)}
        fields = conversation.fields(agent=trace.name or "")
        trajectory = origin.trajectory(
            also=conversation.last.id,
            agent_version=trace.version or trace.release or "",
            metadata={
                "trace": trace.id,
                "session": trace.session_id,
                "environment": trace.environment,
                "observations": sorted(conversation.answers),
                "scores": categories or None,
            },
            **fields,
        )
        made.append((trajectory, [o for s in mine if (o := _outcome(s, conversation, trajectory, origin))]))
    return made


def call(seen: Observation) -> Call:
    """The call of a model that an observation is. Raises ValueError where its messages cannot be read."""
    usage = seen.usage_details or {}
    about = dialects.decoded(seen.metadata)
    about = about if isinstance(about, dict) else {}
    attributes = about.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    input, output = dialects.decoded(seen.input), dialects.decoded(seen.output)
    answer = output if isinstance(output, dict) else {}
    messages = dialects.messages(input) if input is not None else []
    # OpenAI Responses tell of their instructions in the response alone.
    if answer.get("instructions") and not any(m["role"] in ("system", "developer") for m in messages):
        messages = [*dialects.messages(answer["instructions"], "system"), *messages]
    tools = dialects.tools(answer.get("tools")) or dialects.tools(about.get("tools")) or dialects.offered(input)
    return Call(
        id=seen.id,
        messages=messages,
        answer=dialects.messages(output, "assistant") if output is not None else [],
        tools=tools,
        model=seen.model or "",
        provider=str(attributes.get("gen_ai.system") or attributes.get("llm.system") or ""),
        prompt_tokens=usage.get("input"),
        completion_tokens=usage.get("output"),
        started_at=utc(seen.start_time),
        ended_at=utc(seen.end_time),
        failed=seen.level == "ERROR",
    )


def _result(seen: Observation) -> Result | None:
    output, about = dialects.decoded(seen.output), dialects.decoded(seen.metadata)
    named = isinstance(output, dict) and output.get("type") == "tool" and "tool_call_id" in output
    if seen.type != "TOOL" and not named:
        return None
    attributes = about.get("attributes") if isinstance(about, dict) else None
    attributes = attributes if isinstance(attributes, dict) else {}
    id = attributes.get("ai.toolCall.id") or attributes.get("gen_ai.tool.call.id")
    content = seen.output
    if named:
        id, content = output["tool_call_id"], output.get("content")
    return Result(
        tool_call_id=id,
        name=seen.name or "",
        content=dialects.as_text(content) if content is not None else "",
        at=utc(seen.end_time),
        failed=seen.level == "ERROR" or (named and output.get("status") == "error"),
    )


def _step(score: Score, conversation: Conversation) -> int | None:
    return conversation.answers.get(score.observation_id or "")


def _value(score: Score) -> float | None:
    value = score.value
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _outcome(score: Score, conversation: Conversation, trajectory: Trajectory, origin: Origin) -> Outcome | None:
    value = _value(score)
    if value is None:
        return None
    return origin.outcome(
        trajectory,
        score.name,
        value,
        step_index=_step(score, conversation),
        observed_at=utc(score.timestamp),
    )
