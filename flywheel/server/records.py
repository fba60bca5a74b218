"""Bodies of many records: a record a line, or a JSON list of them, or one; and those that were set aside."""

from __future__ import annotations

from itertools import islice

import msgspec
from fastapi import Request

from flywheel.capture import posted
from flywheel.server.config import Config
from flywheel.server.describing import JSON, LINES
from flywheel.server.errors import Refused


class Rejected(msgspec.Struct, frozen=True):
    """A record that was set aside: its line (its place in a list), from 1, and what is wrong with it."""

    line: int
    error: str


def are_lines(request: Request) -> bool:
    """Whether a body has a record a line; refused where it is of another type than these two."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, LINES):
        raise Refused(415, f"send {LINES}, a record a line, or {JSON}, a list of records or one")
    return kind == LINES


def of(body: bytes, config: Config, *, lines: bool) -> list[tuple[int, bytes]]:
    """The records of a body with their lines (places in a list), from 1; refused where there are too many."""
    found = list(islice(posted.lines(body) if lines else posted.items(body), config.lines + 1))
    if len(found) > config.lines:
        raise Refused(413, f"one request may have {config.lines:,} records: send them in parts")
    return found
