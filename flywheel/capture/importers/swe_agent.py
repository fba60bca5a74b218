"""SWE-agent trajectories: one `.traj` file an instance (SWE-agent/SWE-agent, `sweagent/agent/agents.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import EndState, Step

NAME = "swe-agent"
# An agent that ran out of something handed in what it had, or nothing; any other end is a failure.
OUT_OF = ("exit_cost", "exit_context", "exit_total_execution_time", "exit_command_timeout", "early_exit")


class Thought(msgspec.Struct):
    """One block of thinking; a sealed one has no text."""

    thinking: str = ""


class Message(msgspec.Struct, omit_defaults=True):
    """One message of `history`: the thought and action beside it are parts of its content, and are not read."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_ids: list[str] | None = None
    thinking_blocks: list[Thought] | None = None
    agent: str | None = None
    message_type: str | None = None
    is_demo: bool | None = None


class Turn(msgspec.Struct):
    """One turn of `trajectory`: what the model answered, and what it saw for it."""

    response: str = ""
    observation: str | None = None


class Info(msgspec.Struct):
    """How it ended. The tests that decide are run later, elsewhere: a verdict is here only if somebody put it."""

    exit_status: str | None = None
    submission: str | None = None
    model_stats: dict[str, Any] | None = None
    swe_agent_version: str | None = None
    reward: float | None = None
    resolved: bool | None = None
    success: bool | None = None


class Run(msgspec.Struct):
    """One attempt at one instance."""

    trajectory: list[Turn] = []
    history: list[Message] | None = None
    info: Info = msgspec.field(default_factory=Info)
    replay_config: str | dict[str, Any] | None = None
    environment: str | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds a SWE-agent run."""
    turn = all(key in head for key in (b'"action"', b'"observation"', b'"response"'))
    whole = all(key in head for key in (b'"history"', b'"info"', b'"exit_status"'))
    return head.lstrip().startswith(b"{") and b'"trajectory"' in head and (turn or whole)


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The run of a file; where it holds several attempts, each of them (the chosen one stands there twice)."""
    with documents.opened(path) as data:
        top = {piece.key: piece for piece in documents.elements(data)}
        if "attempts" in top:
            pieces = list(documents.elements(data, top["attempts"].start))
        else:
            start = len(documents.BOM) if data[: len(documents.BOM)] == documents.BOM else 0
            pieces = [documents.Piece(data, start, len(data), 1)]
        yield from records.read(pieces, _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at)


def _make(raw: Any, origin: Origin) -> Made:
    run = msgspec.convert(raw, Run)
    steps = _of_history(run.history) if run.history else _of_turns(run.trajectory)
    if not steps:
        raise ValueError("the run has no history and no turns")
    provider, _, model = _model(run.replay_config).rpartition("/")
    task = f"{NAME}-{origin.stem}"
    trajectory = origin.trajectory(
        task_id=task,
        task_group=task,
        task_type=NAME,
        agent=NAME,
        agent_version=run.info.swe_agent_version or "",
        model=model,
        provider=provider,
        end_state=_end(run.info.exit_status),
        metadata={
            "environment": run.environment,
            "exit_status": run.info.exit_status,
            "submission": run.info.submission,
            "model_stats": run.info.model_stats,
        },
        steps=steps,
    )
    verdicts = {name: getattr(run.info, name) for name in ("reward", "resolved", "success")}
    return trajectory, [origin.outcome(trajectory, s, v) for s, v in verdicts.items() if v is not None]


def _of_history(history: list[Message]) -> tuple[Step, ...]:
    """The messages as the model saw them."""
    messages = []
    for said in history:
        message = msgspec.to_builtins(said)
        if ids := message.pop("tool_call_ids", None):
            message["tool_call_id"] = ids[0]  # the agent calls one tool a turn
        if thoughts := message.pop("thinking_blocks", None):
            message["reasoning_content"] = "\n".join(t["thinking"] for t in thoughts if t.get("thinking")) or None
        messages.append(message)
    return chat.steps(messages)


def _of_turns(turns: list[Turn]) -> tuple[Step, ...]:
    """The turns alone, where a file has no history: what came before the first is not known."""
    steps: list[Step] = []
    for turn in turns:
        steps.append(Step(role="assistant", content=turn.response))
        if turn.observation is not None:
            steps.append(Step(role="user", content=turn.observation))
    return tuple(steps)


def _model(config: str | dict[str, Any] | None) -> str:
    """The model's name in the configuration; of that nothing else is read, for it holds the whole task."""
    try:
        value: Any = msgspec.json.decode(config) if isinstance(config, str) else config
        name = value["agent"]["model"]["name"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def _end(status: str | None) -> EndState:
    if status == "submitted":
        return "completed"
    reason = (status or "").removeprefix("submitted (").removesuffix(")")
    return "partial" if reason in OUT_OF or (status or "").startswith("submitted") else "failed"
