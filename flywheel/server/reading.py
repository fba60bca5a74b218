"""Reading over HTTP: workspaces, trajectories and quarantined inputs, in pages or as a stream of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel
from starlette.concurrency import run_in_threadpool

from flywheel.capture import cursors, stored
from flywheel.capture.stored import Filter, Input, Summary
from flywheel.schema import EndState, Trajectory
from flywheel.server.access import allowed, visible
from flywheel.server.describing import JSON, LINES, answers, content
from flywheel.server.running import Running, running
from flywheel.views.messages import to_messages

router = APIRouter(tags=["read"])

PAGE = 100
ROOT = "/api/v1/workspaces"
ID = ROOT + "/{workspace}/trajectories/{id:path}"
READ = Depends(allowed("read"))
Here = Annotated[Running, Depends(running)]
Limit = Annotated[int | None, Query(ge=1, le=1000, description=f"Rows; {PAGE} unless given, all of a stream.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.")]
View = Literal["summary", "record", "chat"]


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("no calendar has this moment in UTC") from error


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class Asked(BaseModel, extra="forbid"):
    """Which trajectories, in what form, from where on."""

    task_type: str | None = None
    agent: str | None = None
    model: str | None = None
    end_state: EndState | None = None
    since: Annotated[Moment | None, Query(description="Arrived then or later.")] = None
    until: Annotated[Moment | None, Query(description="Arrived then or before.")] = None
    outcome: Annotated[bool | None, Query(description="Whether any outcome is known.")] = None
    view: View = "summary"
    cursor: Cursor = None
    limit: Limit = None


class AskedInputs(BaseModel, extra="forbid"):
    """Which quarantined inputs, from where on."""

    since: Annotated[Moment | None, Query(description="Arrived then or later.")] = None
    cursor: Cursor = None
    limit: Limit = None


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory as chat messages, with the tools that were offered."""

    id: str
    messages: list[dict[str, Any]]
    tools: list[Any]


Item = TypeVar("Item", Summary, Trajectory, Chat, Input)


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Rows in the order of arrival. `next` is the cursor of the next page, where there is one.

    No row arrives at or before `through` any more: who follows arrivals asks for those until then.
    """

    items: list[Item]
    next: str | None
    through: datetime | None


class Workspaces(msgspec.Struct, frozen=True):
    """Names, in order."""

    workspaces: list[str]


def _said(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type=JSON)


def _pages(kind: Any) -> dict[int | str, dict[str, Any]]:
    lines = {LINES: {"schema": {"type": "string", "description": "A row a line."}}}
    told = f"A page; with `Accept: {LINES}` all rows."
    return {200: {"description": told, "content": content(kind) | lines}}


@router.get(ROOT, responses=answers(Workspaces, "The workspaces in which the caller has a role."))
def workspaces(request: Request) -> Response:
    """The workspaces that the token may use; without one, those that nobody guards, for who is at the machine."""
    return _said(Workspaces(visible(request)))


@router.get(
    ROOT + "/{workspace}/trajectories",
    dependencies=[READ],
    responses=_pages((Page[Summary], Page[Trajectory], Page[Chat])),
)
async def trajectories(
    request: Request, workspace: str, asked: Annotated[Asked, Query()], here: Here
) -> StreamingResponse:
    """Trajectories in the order in which they arrived: summaries, whole records, or chat messages."""
    lines = _lines(request)
    wanted = Filter(**asked.model_dump(include=set(Filter.__struct_fields__)))
    limit = asked.limit or (None if lines else PAGE)

    def begin() -> pa.Table:
        # One more than is asked for tells whether there are more.
        start = cursors.decoded(asked.cursor)
        return stored.trajectories(here.home, workspace, wanted, start, limit and limit + 1)

    return await _answer(here, workspace, begin, VIEWS[asked.view], limit, lines)


@router.get(ID, dependencies=[READ], responses=answers((Trajectory, Chat), "The trajectory."))
async def trajectory(
    workspace: str, id: str, here: Here, view: Annotated[Literal["record", "chat"], Query()] = "record"
) -> Response:
    """One trajectory: the record as it is stored, or as chat messages."""
    found = await here.read(lambda: stored.one(here.home, workspace, id))
    if found is None:
        raise HTTPException(404, "there is no such trajectory here; what came in just now is stored within a minute")
    return _said(found if view == "record" else _chat(found))


@router.get(
    ROOT + "/{workspace}/quarantine",
    dependencies=[READ],
    responses=_pages(Page[Input]),
)
async def quarantine(
    request: Request, workspace: str, asked: Annotated[AskedInputs, Query()], here: Here
) -> StreamingResponse:
    """What could not be read, in the order in which it arrived."""
    lines = _lines(request)
    limit = asked.limit or (None if lines else PAGE)

    def begin() -> pa.Table:
        start = cursors.decoded(asked.cursor)
        return stored.quarantine(here.home, workspace, asked.since, start, limit and limit + 1)

    return await _answer(here, workspace, begin, stored.inputs, limit, lines)


def _chat(of: Trajectory) -> Chat:
    return Chat(id=of.id, messages=to_messages(of.steps), tools=msgspec.json.decode(of.tools))


def _chats(places: pa.Table) -> Iterator[list[Chat]]:
    return ([_chat(of) for of in found] for found in stored.whole(places))


VIEWS: dict[View, Callable[[pa.Table], Iterator[Sequence[Any]]]] = {
    "summary": stored.summaries,
    "record": stored.whole,
    "chat": _chats,
}


def _lines(request: Request) -> bool:
    return LINES in request.headers.get("accept", "")


async def _answer(
    here: Running,
    workspace: str,
    begin: Callable[[], pa.Table],
    view: Callable[[pa.Table], Iterator[Sequence[Any]]],
    limit: int | None,
    lines: bool,
) -> StreamingResponse:
    """Rows as they are read, so that memory holds a few of them, whatever the page."""
    places = await here.read(begin)
    shown = places if limit is None else places.slice(0, limit)
    next = cursors.encoded(stored.last(shown)) if places.num_rows > shown.num_rows else None
    parts = view(shown)
    # What is wrong with the first rows can still be told by the status.
    first = await here.read(lambda: _encoded(parts, lines))

    async def body() -> AsyncIterator[bytes]:
        if not lines:
            yield b'{"items":['
        part, between = first, b""
        while part is not None:
            yield between + part
            between = b"" if lines else b","
            part = await here.read(lambda: _encoded(parts, lines))
        if not lines:
            through = await run_in_threadpool(stored.through, here.home, workspace)
            yield b'],"next":' + msgspec.json.encode(next) + b',"through":' + msgspec.json.encode(through) + b"}"

    return StreamingResponse(body(), media_type=LINES if lines else JSON)


def _encoded(parts: Iterator[Sequence[Any]], lines: bool) -> bytes | None:
    part = next(parts, None)
    if part is None:
        return None
    return b"".join(msgspec.json.encode(row) + b"\n" for row in part) if lines else msgspec.json.encode(part)[1:-1]
