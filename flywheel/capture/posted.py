"""Posted trajectories: what another machine sends is read strictly, record by record, before anything is written."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture import quarantine, strict
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.journals.events import Whole
from flywheel.capture.redaction import boundary, redact
from flywheel.capture.validity import checked
from flywheel.schema import EndState, FlywheelError, Quarantined, Step, ToolCall, Trajectory, content_digest, stable_id
from flywheel.settings import Home

SOURCE = "http"
LONGEST_ID = 512


class PostedCall(ToolCall, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of a tool. `arguments` is JSON text, as the model wrote it."""


class PostedStep(Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message of an episode. `metadata` is a JSON object as text."""

    tool_calls: tuple[PostedCall, ...] = ()


class Posted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trajectory as it is posted: the record, of which what can be known otherwise may be left out.

    Without an `id` it is named by its content. `task_group` is the task unless given. `tools` is a JSON list and
    `metadata` a JSON object, both as text. `arrived_at` is the server's to say.
    """

    id: str | None = None
    workspace: str | None = None
    task_id: str
    task_group: str | None = None
    task_type: str = ""
    agent: str
    agent_version: str = ""
    model: str = ""
    provider: str = ""
    tools: str = "[]"
    end_state: EndState = "completed"
    started_at: datetime | None = None
    arrived_at: datetime | None = None
    source: str = SOURCE
    source_line: int | None = None
    metadata: str = "{}"
    steps: tuple[PostedStep, ...]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How deep JSON may be nested, how many characters a text may have, and how many steps and calls a trajectory."""

    depth: int
    field: int
    steps: int = 20_000


class Read(msgspec.Struct, frozen=True):
    """What became of posted records: those to be written, redacted, and those that are set aside, by their line."""

    accepted: list[Whole]
    quarantined: list[Quarantined]


DECODER = msgspec.json.Decoder(Posted)
ITEM = json.JSONDecoder()
SPACE = re.compile(r"[ \t\r\n]*")
UNREADABLE = (FlywheelError, msgspec.MsgspecError, UnicodeError, RecursionError)


def lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of NDJSON with their lines, from 1; empty lines are none."""
    return ((number, line) for number, line in enumerate(io.BytesIO(body), 1) if line.strip())


def items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a JSON list with their places, from 1; or the one that is no list. One is in memory at a time.

    Raises:
        FlywheelError: when it is a list that cannot be read.
    """
    if not body.lstrip().startswith(b"["):
        yield 1, body
        return
    try:
        text = body.decode()
        at, number = _after_space(text, text.index("[") + 1), 0
        while text[at] != "]":
            if number:
                if text[at] != ",":
                    raise ValueError(f"no comma at character {at}")
                at = _after_space(text, at + 1)
            _, end = ITEM.raw_decode(text, at)
            number += 1
            yield number, text[at:end].encode()
            at = _after_space(text, end)
        if text[at + 1 :].strip():
            raise ValueError("something follows its end")
    except (ValueError, IndexError, RecursionError) as error:
        raise FlywheelError(f"the body is no JSON list ({error}); nothing was recorded") from error


def _after_space(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    return space.end() if space else at


def read(home: Home, workspace: str, records: Iterable[tuple[int, bytes]], limits: Limits, now: datetime) -> Read:
    """Check and redact records; in = accepted + quarantined."""
    accepted: list[Whole] = []
    bad: list[tuple[int, str, str]] = []
    for number, record in records:
        try:
            posted = _trajectory(record, workspace, limits, now)
            kept = boundary.of(home, workspace, SOURCE).trajectory(posted)
            accepted.append(Whole(redact.redactor(home, workspace).trajectory(kept)))
        except UNREADABLE as error:
            told = str(error) if not isinstance(error, RecursionError) else str(strict.too_deep(limits.depth))
            bad.append((number, told, record[: 4 * EXCERPT].decode("utf-8", "replace")))
    return Read(accepted, quarantine.refused(home, workspace, SOURCE, bad, now))


def _trajectory(record: bytes, workspace: str, limits: Limits, now: datetime) -> Trajectory:
    # Before anything is made of them: each takes many times its size.
    if sum(map(record.count, (b'"role"', b'"arguments"'))) > limits.steps:
        raise FlywheelError(f"a trajectory may have {limits.steps:,} steps and calls")
    posted = DECODER.decode(record)  # first, for it keeps nothing of what is of another form
    strict.value(record, limits.depth)
    if posted.workspace not in (None, workspace):
        raise FlywheelError(f"this is of workspace {posted.workspace!r}, and was sent to {workspace!r}")
    if not posted.steps:
        raise FlywheelError("a trajectory has at least one step")
    if len(record) > limits.field:
        _check_lengths(posted, limits)
    _json(posted.tools, list, "tools is a JSON list as text", limits)
    for part in (posted, *posted.steps):
        _json(part.metadata, dict, "metadata is a JSON object as text", limits)
    fields: dict[str, Any] = {name: getattr(posted, name) for name in Trajectory.__struct_fields__}
    group = posted.task_group or posted.task_id
    fields |= {"id": posted.id or "", "workspace": workspace, "arrived_at": now, "task_group": group}
    made = checked(Trajectory(**fields))
    id = stable_id(SOURCE, workspace, made.task_id, content_digest(made)) if posted.id is None else posted.id
    if not 0 < len(id) <= LONGEST_ID:
        raise FlywheelError(f"an id has 1 to {LONGEST_ID} characters")
    return msgspec.structs.replace(made, id=id)


def _json(text: str, kind: type, rule: str, limits: Limits) -> None:
    # Nearly all are empty.
    if text != ("[]" if kind is list else "{}") and not isinstance(strict.value(text.encode(), limits.depth), kind):
        raise FlywheelError(f"{rule}; this is something else")


def _check_lengths(posted: Posted, limits: Limits) -> None:
    for part in (posted, *posted.steps, *(call for step in posted.steps for call in step.tool_calls)):
        for name in part.__struct_fields__:
            if isinstance(text := getattr(part, name), str) and len(text) > limits.field:
                raise FlywheelError(f"{name} has {len(text):,} characters; a text may have {limits.field:,}")
