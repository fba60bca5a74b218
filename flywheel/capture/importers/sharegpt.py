"""ShareGPT: conversations of `from` and `value`, as chat exports and fine-tuning sets have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.about import Labelled
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import Step, Trajectory, canonical_json

NAME = "sharegpt"
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


class Turn(msgspec.Struct):
    """One turn. An empty `value` is a turn that the export lost: it is kept, empty."""

    speaker: str = msgspec.field(name="from")
    value: str | list[Any] | dict[str, Any] | None = None


class Conversation(Labelled, kw_only=True):
    """One record. What it says beyond this goes to the metadata."""

    conversations: list[dict[str, Any]]
    system: str | None = None
    tools: str | list[dict[str, Any]] | None = None
    id: str | int | None = None
    task_id: str | int | None = None
    task_type: str | None = None
    model: str | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds ShareGPT conversations."""
    return b'"conversations"' in head and b'"from"' in head


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file: a list, lines, or one alone."""
    with documents.opened(path) as data:
        yield from records.read(
            documents.records(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    said = msgspec.convert(raw, Conversation)
    if not said.conversations:
        raise ValueError("the conversation has no turns")
    messages = [{"role": "system", "content": said.system}] if said.system else []
    messages += [_message(turn, number) for number, turn in enumerate(said.conversations)]
    steps = chat.steps(messages)
    tools = msgspec.json.decode(said.tools or "[]") if isinstance(said.tools, str | None) else said.tools
    trajectory = conversation(raw, said, origin, steps, msgspec.convert(tools, list[dict[str, Any]]))
    return trajectory, said.outcomes(trajectory, origin)


def conversation(
    raw: dict[str, Any],
    said: Conversation,
    origin: Origin,
    steps: tuple[Step, ...],
    tools: Sequence[dict[str, Any]],
    **fields: Any,
) -> Trajectory:
    """The trajectory of a record; `fields` are those that a format knows better."""
    task = str(said.task_id or chat.opening(steps))
    about = {k: v for k, v in raw.items() if k not in said.__struct_fields__ and k.lower() not in chat.REFERENCES}
    known: dict[str, Any] = {
        "task_id": task,
        "task_group": task,
        "task_type": said.task_type or "chat",
        "agent": said.model or "unknown",
        "model": said.model or "",
        "end_state": chat.end_state(steps),
        "metadata": {**about, "source_id": said.id},
    }
    return origin.trajectory(
        tools=canonical_json([chat.function(tool) for tool in tools]), steps=steps, **{**known, **fields}
    )


def _message(raw: dict[str, Any], number: int) -> dict[str, Any]:
    """A turn as a chat message; fields of it that a message has not stay beside it."""
    turn = msgspec.convert(raw, Turn)
    message = {k: v for k, v in raw.items() if k not in ("from", "value", "role", "content")}
    message["role"] = role(turn.speaker, number)
    if turn.speaker == "function_call":
        said, functions = called(turn, number)
        return message | said | {"tool_calls": [{"function": function} for function in functions]}
    return message | {"content": canonical_json(turn.value) if isinstance(turn.value, dict) else turn.value}


def role(speaker: str, number: int) -> str:
    """The role of a speaker; raises ValueError where it is none that is known."""
    if speaker not in ROLES:
        raise ValueError(f"turn {number} is from {speaker!r}, none of {', '.join(ROLES)}")
    return ROLES[speaker]


def called(turn: Turn, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The message of a `function_call` turn and the functions in it; raises ValueError where it is none."""
    try:
        made = msgspec.json.decode(turn.value) if isinstance(turn.value, str) else turn.value
        functions = msgspec.convert(made if isinstance(made, list) else [made], list[chat.Function])
    except ValueError as error:
        raise ValueError(f"the function_call of turn {number} is not a name with arguments: {error}") from error
    return {"role": "assistant", "content": None}, [msgspec.to_builtins(function) for function in functions]
