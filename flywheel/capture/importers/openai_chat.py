"""OpenAI chat: conversations in the shape that fine-tuning files have, tools included; lines, a list, or one alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.about import About, made
from flywheel.capture.importers.records import Bad, Made, Origin, Record

NAME = "openai-chat"
# As the name of a member: within a text it would stand after a backslash.
MESSAGES = re.compile(rb'(?<!\\)"messages"\s*:')
BEGINS = re.compile(rb"^\s*[{\[]", re.M)


class Conversation(About, kw_only=True):
    """One line. Only `messages` must be there; TRL's rows have `tools` as JSON text."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | str = ""
    functions: tuple[dict[str, Any], ...] = ()
    provider: str | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds conversations."""
    return BEGINS.search(head) is not None and MESSAGES.search(head) is not None


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
    listed = msgspec.json.decode(said.tools or "[]") if isinstance(said.tools, str) else said.tools
    tools = msgspec.convert(listed, list[dict[str, Any]]) or [chat.function(function) for function in said.functions]
    return made(raw, said, origin, chat.steps(said.messages), tools, said.provider or "")
