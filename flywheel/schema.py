"""The vocabulary: trajectories, steps, tool calls and outcomes, with their Arrow schemas."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa

Role = Literal["system", "user", "assistant", "tool"]
EndState = Literal["completed", "partial", "failed"]


class FlywheelError(Exception):
    """An error whose message tells a person what is wrong and what to do next."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool. `id` is scoped to its trajectory; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an episode, in order.

    `tool_call_id`, `tool_name` and `is_error` are set on steps of role `tool` alone. `metadata` is a JSON
    object of what the source said beyond these fields (cost, finish reason, raw usage).
    """

    role: Role
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    is_error: bool | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    at: datetime | None = None
    metadata: str = "{}"


class Trajectory(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of an agent on one task.

    `task_group` is the unit that splits keep together; `task_type` names the environment or domain. `tools`
    is a JSON list of the OpenAI-style tool schemas that were offered. `arrived_at` (UTC) decides the
    partition: the day we learned of the episode, not the day it happened. `source` and `source_line` lead
    back to where the record came from.
    """

    id: str
    workspace: str
    task_id: str
    task_group: str
    task_type: str
    agent: str
    agent_version: str = ""
    model: str = ""
    provider: str = ""
    tools: str = "[]"
    end_state: EndState
    started_at: datetime | None = None
    arrived_at: datetime
    source: str
    source_line: int | None = None
    metadata: str = "{}"
    steps: tuple[Step, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A signal about a trajectory, or about one of its steps: when it was true, and when we learned it.

    `value` is in the signal's own units (a success is 1.0, a failure 0.0). `step_index` counts from 0 over
    all steps of the trajectory and is None for the trajectory as a whole.
    """

    workspace: str
    trajectory_id: str
    signal: str
    value: float
    source: str
    checker_version: str = ""
    step_index: int | None = None
    observed_at: datetime
    arrived_at: datetime
    comment: str = ""

    @property
    def id(self) -> str:
        """The same fact told twice has the same id, whenever it arrives."""
        return stable_id(
            self.workspace,
            self.trajectory_id,
            self.signal,
            repr(self.value),
            self.source,
            self.checker_version,
            str(self.step_index),
            self.observed_at.astimezone(UTC).isoformat(),
        )


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An input that could not be read: where it stands, what was wrong, and (redacted) how it began."""

    workspace: str
    source: str
    line: int | None
    error: str
    excerpt: str
    arrived_at: datetime

    @property
    def key(self) -> str:
        """What names it: the same input that is refused again for the same reason has the same key."""
        return "\x1f".join((self.source, str(self.line or ""), self.error, self.excerpt))


def stable_id(*parts: str) -> str:
    """A 32-digit name made of content: equal parts, equal name, on every machine."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_digest(trajectory: Trajectory) -> str:
    """SHA-256 of what was said and done (steps and tools), whoever recorded it and whenever it arrived.

    Clock times and token counts stay out of it: two records of one conversation are equal.
    """
    said = [
        (
            s.role,
            s.content,
            s.reasoning,
            [(c.name, c.arguments) for c in s.tool_calls],
            s.tool_name,
            s.is_error,
        )
        for s in trajectory.steps
    ]
    return hashlib.sha256(canonical_json([trajectory.tools, said]).encode()).hexdigest()


def arrival_day(moment: datetime) -> date:
    """The UTC day of a moment."""
    return moment.astimezone(UTC).date()


TIMESTAMP = pa.timestamp("us", tz="UTC")

TOOL_CALL = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])

STEP = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning", pa.string()),
        ("tool_calls", pa.list_(TOOL_CALL)),
        ("tool_call_id", pa.string()),
        ("tool_name", pa.string()),
        ("is_error", pa.bool_()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("at", TIMESTAMP),
        ("metadata", pa.string()),
    ]
)

TRAJECTORIES = pa.schema(
    [
        ("id", pa.string()),
        ("workspace", pa.string()),
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("task_type", pa.string()),
        ("agent", pa.string()),
        ("agent_version", pa.string()),
        ("model", pa.string()),
        ("provider", pa.string()),
        ("tools", pa.string()),
        ("end_state", pa.string()),
        ("started_at", TIMESTAMP),
        ("arrived_at", TIMESTAMP),
        ("source", pa.string()),
        ("source_line", pa.int64()),
        ("metadata", pa.string()),
        ("steps", pa.list_(STEP)),
        # Derived at the time of writing, so that queries need not unnest the steps.
        ("n_steps", pa.int32()),
        ("content_digest", pa.string()),
    ]
)

OUTCOMES = pa.schema(
    [
        ("id", pa.string()),
        ("workspace", pa.string()),
        ("trajectory_id", pa.string()),
        ("signal", pa.string()),
        ("value", pa.float64()),
        ("source", pa.string()),
        ("checker_version", pa.string()),
        ("step_index", pa.int32()),
        ("observed_at", TIMESTAMP),
        ("arrived_at", TIMESTAMP),
        ("comment", pa.string()),
    ]
)

QUARANTINE = pa.schema(
    [
        ("workspace", pa.string()),
        ("source", pa.string()),
        ("line", pa.int64()),
        ("error", pa.string()),
        ("excerpt", pa.string()),
        ("arrived_at", TIMESTAMP),
    ]
)


def trajectories_table(trajectories: list[Trajectory]) -> pa.Table:
    """Trajectories as Arrow rows of `TRAJECTORIES`."""
    rows = [
        msgspec.to_builtins(t, builtin_types=(datetime,))
        | {"n_steps": len(t.steps), "content_digest": content_digest(t)}
        for t in trajectories
    ]
    return pa.Table.from_pylist(rows, schema=TRAJECTORIES)


def outcomes_table(outcomes: list[Outcome]) -> pa.Table:
    """Outcomes as Arrow rows of `OUTCOMES`."""
    rows = [msgspec.to_builtins(o, builtin_types=(datetime,)) | {"id": o.id} for o in outcomes]
    return pa.Table.from_pylist(rows, schema=OUTCOMES)


def quarantine_table(rows: list[Quarantined]) -> pa.Table:
    """Quarantined inputs as Arrow rows of `QUARANTINE`."""
    return pa.Table.from_pylist([msgspec.to_builtins(r, builtin_types=(datetime,)) for r in rows], schema=QUARANTINE)


def trajectory_of(row: dict[str, Any]) -> Trajectory:
    """The record of one Arrow row (as `to_pylist` gives it)."""
    return msgspec.convert({k: row[k] for k in Trajectory.__struct_fields__}, Trajectory)
