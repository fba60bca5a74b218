"""`GET .../exports/{format}`: what a workspace captured goes out as the rows of a format, streamed line by line."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from flywheel.corpus import reference
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.export import choose, write
from flywheel.export.card import Card
from flywheel.export.choose import Chosen, Split
from flywheel.schema import FlywheelError
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, LINES, answers, content
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.settings import Home
from flywheel.views.formats import FORMATS
from flywheel.views.graded import Format

router = APIRouter(tags=["exports"])

# Bytes that are sent at once: one line costs as much to send as many.
CHUNK = 2**16


class Asked(BaseModel, extra="forbid"):
    """Which trajectories."""

    version: Annotated[
        str | None, Query(description="A corpus version, NAME@v3; all that was captured unless given.", max_length=256)
    ] = None
    split: Annotated[Split, Query(description="`heldout` is what evaluations ask.")] = "train"
    where: Annotated[
        str | None, Query(description="A SQL condition on reward, task_type, n_steps, ...", max_length=4096)
    ] = None


class Paged(Asked):
    """Which trajectories, from where on."""

    limit: Annotated[int | None, Query(description="Trajectories at most.", ge=1, le=2**31)] = None
    cursor: Annotated[str | None, Query(description="X-Next-Cursor of the page before.", max_length=1024)] = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, how many trajectories they are of, why others have none, and the cursor of the next page, if any."""

    rows: list[dict[str, Any]]
    written: int
    left_out: dict[str, int]
    next: str | None


ROWS = f"The rows, one JSON object a line; with `Accept: {JSON}` a page. X-Next-Cursor: where the next page begins."
NAME = Path(description="The format.", json_schema_extra={"enum": list(FORMATS)})
Here = Annotated[Running, Depends(running)]
EXPORT = Depends(allowed("export"))


@router.get(
    "/api/v1/workspaces/{workspace}/exports/{format}",
    response_class=StreamingResponse,
    dependencies=[EXPORT],
    responses={200: {"description": ROWS, "content": content(str, LINES) | content(Page)}},
)
def exports(
    request: Request, workspace: str, format: Annotated[str, NAME], here: Here, asked: Annotated[Paged, Query()]
) -> StreamingResponse:
    """Trajectories as the rows of a format, in order of their ids.

    Rows that are held out stay behind unless `split` asks for them. With a `limit` an answer is a page, and its
    X-Next-Cursor (and Link) lead to the next; the last page has none. Pages of a version never change. Trajectories
    that the format has no row for are counted, by reason, at the end of a page in JSON, and on the card.
    """
    of = _format(format)
    page, next_cursor = _page(_chosen(here.home, workspace, asked, of), asked.cursor, asked.limit)
    headers = {}
    if next_cursor is not None:
        query = urlencode({**request.query_params, "cursor": next_cursor})
        headers = {
            "X-Next-Cursor": next_cursor,
            "Link": f'<{request.url.path}?{query}>; rel="next"',
        }
    accepted = request.headers.get("accept", "")
    if JSON in accepted and LINES not in accepted:
        return StreamingResponse(_object(here.home, page, of, next_cursor), media_type=JSON, headers=headers)
    made = (write.lines(rows, of) for _, rows in write.rows(here.home, page, of))
    return StreamingResponse(_gathered(made), media_type=LINES, headers=headers)


@router.get(
    "/api/v1/workspaces/{workspace}/exports/{format}/card",
    dependencies=[EXPORT],
    responses=answers(Card, "What all pages together hold, and what not."),
)
async def card(workspace: str, format: Annotated[str, NAME], here: Here, asked: Annotated[Asked, Query()]) -> Response:
    """The card of an export: as many as were looked at are written and left out, each of these with its reason.

    `files` has the number of lines, the bytes and the SHA-256 of all rows as lines, which are made for it.
    """
    of = _format(format)
    async with here.reading:
        made = await run_in_threadpool(lambda: write.counted(here.home, _chosen(here.home, workspace, asked, of), of))
    return Response(msgspec.json.encode(made), media_type=JSON)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise Refused(404, f"there is no format {name!r}; there are: {', '.join(FORMATS)}")
    return FORMATS[name]


def _chosen(home: Home, workspace: str, asked: Asked, format: Format) -> Chosen:
    if asked.version is None:
        return choose.of_workspace(home, workspace, asked.split, where=asked.where)
    of = _version(home, workspace, asked.version)
    return choose.of_version(home, of, asked.split, asked.where, trained=format.name != "steps")


def _version(home: Home, workspace: str, version: str) -> Manifest:
    """A version that was made of a workspace; nothing is said of others that are there."""
    name, at = reference.parse(version)
    try:
        of = manifest(home, name, at)
    except FlywheelError:
        of = None
    if of is None or of.recipe["workspace"] != workspace:
        raise Refused(404, f"workspace {workspace!r} has no corpus version {version!r}")
    return of


def _page(chosen: Chosen, cursor: str | None, limit: int | None) -> tuple[Chosen, str | None]:
    """What goes into an answer, and the cursor of the next: the id that it begins behind."""
    try:
        after = None if cursor is None else base64.b64decode(cursor, b"-_", validate=True).decode()
    except ValueError as error:
        raise Refused(400, "this is no cursor: send back what X-Next-Cursor was, or leave it out") from error
    rest = chosen.page(after, None)
    page = rest.page(None, limit)
    if page.keys.num_rows == rest.keys.num_rows:
        return page, None
    last = page.keys["trajectory_id"][page.keys.num_rows - 1].as_py()
    return page, base64.urlsafe_b64encode(last.encode()).decode()


def _object(home: Home, chosen: Chosen, of: Format, next_cursor: str | None) -> Iterator[bytes]:
    """A `Page`: what was left out is known when the last row is made."""
    left_out: Counter[str] = Counter()
    written = 0

    def parts() -> Iterator[bytes]:
        nonlocal written
        between = b""
        yield b'{"rows":['
        for _, rows in write.rows(home, chosen, of, tell=lambda reason: left_out.update([reason])):
            written += 1
            if rows:  # an episode without steps has none in `steps`
                yield between + msgspec.json.encode(rows)[1:-1]
                between = b","
        yield b"]"

    yield from _gathered(parts())
    said = {"written": written, "left_out": dict(left_out.most_common()), "next": next_cursor}
    yield b"," + msgspec.json.encode(said)[1:]


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Many parts at a time: they are made as fast as they are taken."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        if len(waiting) >= CHUNK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
