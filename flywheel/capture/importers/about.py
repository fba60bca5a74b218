"""What a record may say of its conversation beside the messages: task, agent, model, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.capture.importers import chat
from flywheel.capture.importers.records import Made, Origin
from flywheel.schema import Outcome, Step, Trajectory, canonical_json


class Labelled(msgspec.Struct, kw_only=True):
    """A record without a reward or success stays unlabelled."""

    reward: float | None = None
    success: bool | None = None

    def outcomes(self, trajectory: Trajectory, origin: Origin) -> list[Outcome]:
        """The reward and the success, where the record has them."""
        signals = {"reward": self.reward, "success": None if self.success is None else float(self.success)}
        return [origin.outcome(trajectory, s, v) for s, v in signals.items() if v is not None]


class About(Labelled, kw_only=True):
    """The fields of a line of chat beside its messages; `metadata` may hold some of them instead."""

    id: str | int | None = None
    task_id: str | int | None = None
    task_group: str | None = None
    task_type: str | None = None
    agent: str | None = None
    agent_version: str | None = None
    model: str | None = None
    metadata: dict[str, Any] | None = None


def made(
    raw: dict[str, Any],
    said: About,
    origin: Origin,
    steps: tuple[Step, ...],
    tools: Sequence[dict[str, Any]],
    provider: str,
) -> Made:
    """The trajectory of a record, of its steps and of its tools in the style of OpenAI, with its outcomes.

    What has no place of its own goes to the metadata.
    """
    about = {k: v for k, v in raw.items() if k not in said.__struct_fields__} | (said.metadata or {})
    task = str(said.task_id or about.get("task_id") or chat.opening(steps))
    model = said.model or str(about.get("model") or "")
    trajectory = origin.trajectory(
        task_id=task,
        task_group=said.task_group or str(about.get("task_group") or task),
        task_type=said.task_type or str(about.get("task_type") or "chat"),
        agent=said.agent or str(about.get("agent") or model or "unknown"),
        agent_version=said.agent_version or "",
        model=model,
        provider=provider,
        tools=canonical_json(list(tools)),
        end_state=chat.end_state(steps),
        metadata={
            **{key: value for key, value in about.items() if key.lower() not in chat.REFERENCES},
            "source_id": said.id,
        },
        steps=steps,
    )
    return trajectory, said.outcomes(trajectory, origin)
