"""Anthropic messages: conversations as a request to the messages API holds them; lines, a list, or one alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from flywheel.capture.importers import blocks, documents, halves, records
from flywheel.capture.importers.about import About, made
from flywheel.capture.importers.calls import Calls
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import Step

NAME = "anthropic-messages"
BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking")  # no other API writes these
MARKS = (b'"input_schema"', b'"tool_use_id"', b'"tool_use"')
OTHER_ROLES = ("system", "developer", "tool", "function")  # here the system prompt stands beside the messages


class Message(msgspec.Struct):
    """One message; only what the model answered has a usage."""

    role: Literal["user", "assistant"]
    content: blocks.Content
    usage: blocks.Usage | None = None
    stop_reason: str | None = None


class Conversation(About, kw_only=True):
    """One line. Only `messages` must be there."""

    messages: list[Message]
    system: blocks.Content = None
    tools: tuple[dict[str, Any], ...] = ()


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds such conversations: some record must have what no other API writes."""
    found = False
    for line in (piece.data for piece in documents.records(head)) if b'"messages"' in head else ():
        if not line.startswith(b"{") or b'"messages"' not in line:
            continue
        try:
            raw = halves.decoded(line)
        except (ValueError, RecursionError):  # broken, or longer than a head
            found |= any(mark in line for mark in MARKS) and b'"tool_calls"' not in line
            continue
        said, tools = _objects(raw.get("messages")), _objects(raw.get("tools"))
        if any(m.get("role") in OTHER_ROLES or "tool_calls" in m or "function_call" in m for m in said):
            return False
        found |= bool(said) and (
            isinstance(raw.get("system"), str | list)
            or any("input_schema" in tool for tool in tools)
            or any(block.get("type") in BLOCKS for m in said for block in _objects(m.get("content")))
        )
    return found


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file."""
    with documents.opened(path) as data:
        yield from records.read(
            documents.records(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    said = msgspec.convert(raw, Conversation)
    if not said.messages:
        raise ValueError("the conversation has no messages")
    return made(raw, said, origin, _steps(said), [_tool(tool) for tool in said.tools], "anthropic")


def _steps(said: Conversation) -> tuple[Step, ...]:
    calls = Calls()
    steps = blocks.user(said.system, calls, {}, role="system")
    for message in said.messages:
        if message.role == "user":
            steps += blocks.user(message.content, calls, {})
            continue
        usage = message.usage or blocks.Usage()
        steps.append(
            blocks.assistant(
                message.content,
                calls,
                {"stop_reason": message.stop_reason},
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.output_tokens,
            )
        )
    if not steps:
        raise ValueError("the conversation says nothing")
    return tuple(steps)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in the style of OpenAI; the server's own tools have a type and no schema, and keep their type."""
    function = {key: value for key, value in tool.items() if key not in ("input_schema", "cache_control")}
    return {"type": "function", "function": function | {"parameters": tool.get("input_schema") or {"type": "object"}}}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []
