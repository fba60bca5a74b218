"""OpenAI chat as JSON Lines: one conversation a line, in the shape that fine-tuning files have, tools included."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import canonical_json

NAME = "openai-chat"


class Conversation(msgspec.Struct):
    """One line. Only `messages` must be there; a line without a reward or success stays unlabelled."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    functions: list[dict[str, Any]] = []
    id: str | int | None = None
    task_id: str | int | None = None
    task_group: str | None = None
    task_type: str | None = None
    agent: str | None = None
    agent_version: str | None = None
    model: str | None = None
    provider: str | None = None
    reward: float | None = None
    success: bool | None = None
    metadata: dict[str, Any] | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds conversations, one a line."""
    return any(line.lstrip().startswith(b"{") and b'"messages"' in line for line in head.splitlines())


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file."""
    with documents.opened(path) as data:
        yield from records.read(
            documents.lines(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    said = msgspec.convert(raw, Conversation)
    if not said.messages:
        raise ValueError("the conversation has no messages")
    steps = chat.steps(said.messages)
    about = said.metadata or {}
    tools = said.tools or [{"type": "function", "function": function} for function in said.functions]
    task = str(said.task_id or about.get("task_id") or chat.opening(steps))
    model = said.model or str(about.get("model") or "")
    trajectory = origin.trajectory(
        task_id=task,
        task_group=said.task_group or str(about.get("task_group") or task),
        task_type=said.task_type or str(about.get("task_type") or "chat"),
        agent=said.agent or str(about.get("agent") or model or "unknown"),
        agent_version=said.agent_version or "",
        model=model,
        provider=said.provider or "",
        tools=canonical_json(tools),
        end_state=chat.end_state(steps),
        metadata={
            **{key: value for key, value in about.items() if key.lower() not in chat.REFERENCES},
            "source_id": said.id,
        },
        steps=steps,
    )
    signals = {"reward": said.reward, "success": None if said.success is None else float(said.success)}
    return trajectory, [origin.outcome(trajectory, s, v) for s, v in signals.items() if v is not None]
