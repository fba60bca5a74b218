"""`POST .../trajectories`: whole trajectories come in, and are on disk when the answer goes out."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from flywheel.capture import posted
from flywheel.capture.access import Grant
from flywheel.capture.journal import SetAside
from flywheel.capture.posted import Posted, Read
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, LINES, answers, takes
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running

router = APIRouter(tags=["capture"])


class Rejected(msgspec.Struct, frozen=True):
    """A record that was set aside: its line (its place in a list), from 1, and what is wrong with it."""

    line: int
    error: str


class Received(msgspec.Struct, frozen=True):
    """What became of all records that were sent: as many as were accepted and quarantined together."""

    accepted: int
    quarantined: list[Rejected]


@router.post(
    "/api/v1/workspaces/{workspace}/trajectories",
    responses=answers(Received, "All of it is on disk: what was accepted, and what was not for the quarantine."),
    openapi_extra=takes({JSON: Posted | list[Posted], LINES: str}),
)
async def trajectories(
    request: Request,
    workspace: str,
    _grant: Annotated[Grant, Depends(allowed("capture"))],
    here: Annotated[Running, Depends(running)],
) -> Response:
    """Record whole trajectories: one a line as NDJSON, or a JSON list of them, or one.

    A trajectory whose id is known already is not stored again, so a request that was not answered can be sent again.
    """
    lines = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if lines not in (JSON, LINES):
        raise Refused(415, f"send {LINES}, a record a line, or {JSON}, a list of records or one")
    body = await request.body()
    async with here.taking:
        read = await asyncio.to_thread(_read, here, workspace, body, lines == LINES)
    if events := [*read.accepted, *map(SetAside, read.quarantined)]:
        await here.writer(workspace).write(events)
    rejected = [Rejected(row.line or 0, row.error) for row in read.quarantined]
    return Response(msgspec.json.encode(Received(len(read.accepted), rejected)), media_type=JSON)


def _read(here: Running, workspace: str, body: bytes, lines: bool) -> Read:
    config = here.config
    records = list(islice(posted.lines(body) if lines else posted.items(body), config.lines + 1))
    if len(records) > config.lines:
        raise Refused(413, f"one request may have {config.lines:,} records: send them in parts")
    limits = posted.Limits(depth=config.depth, field=config.field_bytes, steps=config.steps)
    return posted.read(here.home, workspace, records, limits, here.clock())
