"""`POST` and `GET .../outcomes`: what became known of trajectories comes in, and what is stored of it goes out."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from flywheel.capture import posted, quarantine, strict
from flywheel.capture.access import Grant
from flywheel.capture.feedback import ledger
from flywheel.capture.feedback.ledger import Heard, Telling, moment
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.journals.events import SetAside, Told
from flywheel.outcomes import paging
from flywheel.outcomes.paging import Page
from flywheel.server import records
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, LINES, answers, takes
from flywheel.server.records import Rejected
from flywheel.server.running import Running, running

router = APIRouter(tags=["outcomes"])

PATH = "/api/v1/workspaces/{workspace}/outcomes"


class Taken(msgspec.Struct, frozen=True):
    """What became of all outcomes that were sent: as many as were accepted, already there and quarantined together.

    `already_there` are those whose key was told before. Of those without one, and told again with the same time,
    only one is stored too: they are counted as accepted.
    """

    accepted: int
    already_there: int
    quarantined: list[Rejected]


class Asked(BaseModel, extra="forbid"):
    """Which outcomes, from where on."""

    trajectory: Annotated[str | None, Query(description="Those of one trajectory, by its id.")] = None
    signal: Annotated[str | None, Query(description="Those of one signal.")] = None
    since: Annotated[str | None, Query(description="What arrived after this moment (ISO 8601, with a zone).")] = None
    cursor: Annotated[str | None, Query(description="The `next` of the page before.")] = None
    limit: Annotated[int, Query(ge=1, le=paging.LARGEST, description="Rows of a page.")] = 100


@router.post(
    PATH,
    responses=answers(Taken, "All of it is on disk: what was accepted, and what was not for the quarantine."),
    openapi_extra=takes({JSON: Telling | list[Telling], LINES: str}),
)
async def tell(
    request: Request,
    workspace: str,
    _grant: Annotated[Grant, Depends(allowed("capture"))],
    here: Annotated[Running, Depends(running)],
) -> Response:
    """Record outcomes: one a line as NDJSON, or a JSON list of them, or one.

    An outcome is a fact: told again with the same content and `observed_at`, or with the same `key`, it is not stored
    again, so a request that was not answered can be sent again. A revision is another outcome with a later time.
    Their trajectories may come later than they.
    """
    lines = records.are_lines(request)
    body = await request.body()
    heard, rejected = await here.parse(body, partial(_read, here, workspace, body, lines))
    aside = await asyncio.to_thread(quarantine.refused, here.home, workspace, posted.SOURCE, rejected, here.clock())
    if events := [*(Told(one.outcome) for one in heard), *map(SetAside, aside)]:
        await here.writer(workspace).write(events)
    again = sum(one.again for one in heard)
    taken = Taken(len(heard) - again, again, [Rejected(line, error) for line, error, _ in rejected])
    return Response(msgspec.json.encode(taken), media_type=JSON)


@router.get(PATH, responses=answers(Page, "A page of the ledger."))
async def listed(
    workspace: str,
    _grant: Annotated[Grant, Depends(allowed("read"))],
    here: Annotated[Running, Depends(running)],
    asked: Annotated[Asked, Query()],
) -> Response:
    """The outcomes that are stored, in the order in which they arrived. What was told a moment ago is stored soon."""
    wanted = {**asked.model_dump(), "since": moment(asked.since) if asked.since else None}
    page = await here.read(partial(paging.page, here.home, workspace, **wanted))
    return Response(msgspec.json.encode(page), media_type=JSON)


def _read(here: Running, workspace: str, body: bytes, lines: bool) -> tuple[list[Heard], list[tuple[int, str, str]]]:
    """The outcomes of a body, and (line, error, excerpt) of what is none."""
    good: list[tuple[int, bytes, Telling]] = []
    bad: list[tuple[int, str, str]] = []
    for number, record in records.of(body, here.config, lines=lines):
        try:
            good.append((number, record, msgspec.convert(strict.value(record, here.config.depth), Telling)))
        except posted.UNREADABLE as error:
            bad.append((number, str(error), _excerpt(record)))
    heard: list[Heard] = []
    found = ledger.hear(here.home, workspace, [telling for _, _, telling in good], here.clock())
    for (number, record, _), one in zip(good, found, strict=True):
        if isinstance(one, Heard):
            heard.append(one)
        else:
            bad.append((number, str(one), _excerpt(record)))
    return heard, sorted(bad)


def _excerpt(record: bytes) -> str:
    return record[: 4 * EXCERPT].decode("utf-8", "replace")
