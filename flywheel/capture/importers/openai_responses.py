"""OpenAI Responses, one call a record: what a request gave (`input`, `instructions`) beside what came (`output`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from flywheel.capture.importers import api_calls
from flywheel.capture.importers.api_calls import Recorded
from flywheel.capture.importers.records import Bad, Record

NAME = "openai-responses"
MARKS = (
    re.compile(rb'(?<!\\)"input"\s*:\s*["\[]'),
    re.compile(rb'(?<!\\)"output"\s*:\s*\['),
    re.compile(
        rb'(?<!\\)(?:"object"\s*:\s*"response"|"type"\s*:\s*"(?:message|reasoning|function_call|custom_tool_call)")'
    ),
)


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds such calls."""
    return all(mark.search(head) for mark in MARKS)


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file: calls that go on from one another, by their messages or by the response's id."""
    yield from api_calls.read_calls(path, workspace, arrived_at, _recorded, NAME)


def _recorded(raw: Any) -> Recorded:
    if not isinstance(raw, dict) or not isinstance(raw.get("output"), list):
        raise ValueError("it is no response: there is no list of output items")
    return Recorded(request=raw, response=raw, uri="/v1/responses")
