"""`GET .../exports/{format}`: what a workspace captured goes out as the rows of a format, streamed line by line."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from flywheel.capture.access import Grant
from flywheel.corpus import reference
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.export import choose, write
from flywheel.export.choose import Chosen, Split
from flywheel.export.files import line
from flywheel.schema import FlywheelError
from flywheel.server.access import allowed
from flywheel.server.describing import LINES, answers
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.settings import Home
from flywheel.views.formats import FORMATS

router = APIRouter(tags=["exports"])

# Bytes that are sent at once: one line costs as much to send as many.
CHUNK = 2**16


class Asked(BaseModel, extra="forbid"):
    """Which trajectories, from where on."""

    version: Annotated[
        str | None, Query(description="A corpus version, NAME@v3; all that was captured unless given.", max_length=256)
    ] = None
    split: Annotated[Split, Query(description="`heldout` is what evaluations ask.")] = "train"
    where: Annotated[
        str | None, Query(description="A SQL condition on reward, task_type, n_steps, ...", max_length=4096)
    ] = None
    limit: Annotated[int | None, Query(description="Trajectories at most.", ge=1, le=2**31)] = None
    cursor: Annotated[str | None, Query(description="X-Next-Cursor of the page before.", max_length=1024)] = None


@router.get(
    "/api/v1/workspaces/{workspace}/exports/{format}",
    response_class=StreamingResponse,
    responses=answers(str, "The rows, one JSON object a line. X-Next-Cursor: where the next page begins.", LINES),
)
def exports(
    request: Request,
    workspace: str,
    format: Annotated[str, Path(description="The format.", json_schema_extra={"enum": list(FORMATS)})],
    here: Annotated[Running, Depends(running)],
    _grant: Annotated[Grant, Depends(allowed("export"))],
    asked: Annotated[Asked, Query()],
) -> StreamingResponse:
    """Trajectories as the rows of a format, in order of their ids.

    Rows that are held out stay behind unless `split` asks for them. With a `limit` an answer is a page, and its
    X-Next-Cursor (and Link) lead to the next; the last page has none. Pages of a version never change. Trajectories
    that the format has no row for are passed over; `flywheel export` writes a card that counts them.
    """
    if format not in FORMATS:
        raise Refused(404, f"there is no format {format!r}; there are: {', '.join(FORMATS)}")
    chosen = _chosen(here.home, workspace, asked, trained=format != "steps")
    page, next_cursor = _page(chosen, asked.cursor, asked.limit)
    headers = {}
    if next_cursor is not None:
        query = urlencode({**request.query_params, "cursor": next_cursor})
        headers = {
            "X-Next-Cursor": next_cursor,
            "Link": f'<{request.url.path}?{query}>; rel="next"',
        }
    return StreamingResponse(_lines(here.home, page, format), media_type=LINES, headers=headers)


def _chosen(home: Home, workspace: str, asked: Asked, *, trained: bool) -> Chosen:
    if asked.version is None:
        return choose.of_workspace(home, workspace, asked.split, where=asked.where)
    of = _version(home, workspace, asked.version)
    return choose.of_version(home, of, asked.split, asked.where, trained=trained)


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


def _lines(home: Home, chosen: Chosen, format: str) -> Iterator[bytes]:
    """The rows as lines, some at a time: they are made as fast as they are taken."""
    waiting = bytearray()
    for _, rows in write.rows(home, chosen, FORMATS[format]):
        for row in rows:
            waiting += line(row, spaced=format == "hermes")
            if len(waiting) >= CHUNK:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)
