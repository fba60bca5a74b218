"""`POST .../trajectories`: whole trajectories come in, and are on disk when the answer goes out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from flywheel.capture import posted
from flywheel.capture.access import Grant
from flywheel.capture.journals.events import SetAside
from flywheel.capture.posted import Posted, Read
from flywheel.server import records
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, LINES, answers, takes
from flywheel.server.records import Rejected
from flywheel.server.running import Running, running

router = APIRouter(tags=["capture"])


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
    lines = records.are_lines(request)
    body = await request.body()
    read = await here.parse(body, partial(_read, here, workspace, body, lines))
    if events := [*read.accepted, *map(SetAside, read.quarantined)]:
        await here.writer(workspace).write(events)
    rejected = [Rejected(row.line or 0, row.error) for row in read.quarantined]
    return Response(msgspec.json.encode(Received(len(read.accepted), rejected)), media_type=JSON)


def _read(here: Running, workspace: str, body: bytes, lines: bool) -> Read:
    config = here.config
    found = records.of(body, config, lines=lines)
    limits = posted.Limits(depth=config.depth, field=config.field_bytes, steps=config.steps)
    return posted.read(here.home, workspace, found, limits, here.clock())
