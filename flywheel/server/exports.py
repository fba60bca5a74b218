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

from flywheel.corpus import reference
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.corpus.query import Bounds
from flywheel.export import choose, formats, write
from flywheel.export.card import Card
from flywheel.export.choose import Split
from flywheel.export.learned import Learned
from flywheel.export.source import Source
from flywheel.export.stepwise import DPO, STEP_RECORD
from flywheel.release import ownership
from flywheel.schema import FlywheelError
from flywheel.server.access import allowed
from flywheel.server.describing import JSON, LINES, answers, content
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.settings import Home, checked_name

router = APIRouter(tags=["exports"])

# Bytes that are sent at once: one line costs as much to send as many.
CHUNK = 2**16


class Asked(BaseModel, extra="forbid"):
    """Which trajectories, or which of what trees taught."""

    version: Annotated[
        str | None, Query(description="A corpus version, NAME@v3; all that was captured unless given.", max_length=256)
    ] = None
    sql: Annotated[
        str | None, Query(description="Those whose ids a statement over the catalog gives.", max_length=4096)
    ] = None
    pairs: Annotated[str | None, Query(description="For trl-dpo: the key of pairs made of trees.", max_length=256)] = (
        None
    )
    trees: Annotated[str | None, Query(description="For step-records: the key of rollout trees.", max_length=256)] = (
        None
    )
    split: Annotated[Split, Query(description="`heldout` is what evaluations ask.")] = "train"
    where: Annotated[
        str | None,
        Query(description="A SQL condition on reward, task_type, n_steps, ...; on columns of pairs.", max_length=4096),
    ] = None
    margin: Annotated[float | None, Query(description="For trl-dpo: least gap between chances.", ge=0, le=1)] = None
    probability: Annotated[
        float | None, Query(description="For trl-dpo: least probability that the chosen step is better.", ge=0, le=1)
    ] = None


class Paged(Asked):
    """Which trajectories, from where on."""

    limit: Annotated[
        int | None, Query(description="Trajectories at most; tasks of trl-dpo and step-records.", ge=1, le=2**31)
    ] = None
    cursor: Annotated[str | None, Query(description="X-Next-Cursor of the page before.", max_length=1024)] = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, how many trajectories they are of, why others have none, and the cursor of the next page, if any."""

    rows: list[dict[str, Any]]
    written: int
    left_out: dict[str, int]
    next: str | None


ROWS = f"The rows, one JSON object a line; with `Accept: {JSON}` a page. X-Next-Cursor: where the next page begins."
NAME = Path(description="The format.", json_schema_extra={"enum": list(formats.NAMES)})
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
    """Trajectories as the rows of a format, in order of their ids; or of their tasks, where these are compared.

    Rows that are held out stay behind unless `split` asks for them. With a `limit` an answer is a page, and its
    X-Next-Cursor (and Link) lead to the next; the last page has none. Pages of a version never change. Trajectories
    that the format has no row for are counted, by reason, at the end of a page in JSON, and on the card.
    """
    page, following = _source(here.home, workspace, format, asked).page(_after(asked.cursor), asked.limit)
    headers = {}
    next_cursor = None if following is None else base64.urlsafe_b64encode(following.encode()).decode()
    if next_cursor is not None:
        query = urlencode({**request.query_params, "cursor": next_cursor})
        headers = {
            "X-Next-Cursor": next_cursor,
            "Link": f'<{request.url.path}?{query}>; rel="next"',
        }
    accepted = request.headers.get("accept", "")
    if JSON in accepted and LINES not in accepted:
        return StreamingResponse(_object(page, next_cursor), media_type=JSON, headers=headers)
    made = (write.lines(made, page) for made in page.made(lambda reason, units: None))
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
    made = await here.read(lambda: write.counted(_source(here.home, workspace, format, asked)))
    return Response(msgspec.json.encode(made), media_type=JSON)


def _source(home: Home, workspace: str, format: str, asked: Asked) -> Source:
    if format not in formats.NAMES:
        raise Refused(404, f"there is no format {format!r}; there are: {', '.join(formats.NAMES)}")
    if sum(one is not None for one in (asked.version, asked.sql, asked.pairs, asked.trees)) > 1:
        raise Refused(400, "ask by one of version, sql, pairs and trees")
    if asked.pairs is not None or asked.trees is not None:
        return _learned(home, workspace, format, asked)
    if asked.version is not None:
        of = _version(home, workspace, asked.version)
        chosen = choose.of_version(home, of, asked.split, asked.where, trained=format != "steps")
    else:
        ids = None
        if asked.sql is not None:
            ids = choose.ids(home, asked.sql, ownership.seen(home, (workspace,)), Bounds())
        chosen = choose.of_workspace(home, workspace, asked.split, where=asked.where, ids=ids, sql=asked.sql)
    return formats.source(home, chosen, format, gates=formats.gates(asked.margin, asked.probability))


def _learned(home: Home, workspace: str, format: str, asked: Asked) -> Learned:
    """What trees taught that came of a workspace alone; nothing is said of others that are there."""
    name, key = ("pairs", asked.pairs) if asked.pairs is not None else ("trees", asked.trees)
    if format != {"pairs": DPO, "trees": STEP_RECORD}[name]:
        raise Refused(400, f"{name} are for {DPO if name == 'pairs' else STEP_RECORD}, not for {format}")
    if asked.split != "train" or asked.margin is not None or asked.probability is not None:
        raise Refused(400, f"{name} are made already: leave out split, margin and probability")
    key = checked_name(key or "", "key")
    owners = ownership.pairs(home, key) if name == "pairs" else ownership.trees(home, key)
    if not owners <= {workspace}:
        raise Refused(404, f"workspace {workspace!r} has no {name} {key!r}")
    return Learned(home, format, key, asked.where)


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


def _after(cursor: str | None) -> str | None:
    try:
        return None if cursor is None else base64.b64decode(cursor, b"-_", validate=True).decode()
    except ValueError as error:
        raise Refused(400, "this is no cursor: send back what X-Next-Cursor was, or leave it out") from error


def _object(source: Source, next_cursor: str | None) -> Iterator[bytes]:
    """A `Page`: what was left out is known when the last row is made."""
    left_out: Counter[str] = Counter()
    written = 0

    def parts() -> Iterator[bytes]:
        nonlocal written
        between = b""
        yield b'{"rows":['
        for made in source.made(lambda reason, units: left_out.update({reason: units})):
            written += made.written
            if made.rows:  # an episode without steps has none in `steps`
                yield between + msgspec.json.encode(made.rows)[1:-1]
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
