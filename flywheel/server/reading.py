"""Reading over HTTP: workspaces, trajectories, quarantined inputs and corpora, in pages or as a stream of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import duckdb
import msgspec
import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime, BaseModel
from starlette.concurrency import run_in_threadpool

from flywheel.capture import stored
from flywheel.capture.stored import Filter, Input, Summary
from flywheel.corpus import manifest as manifests
from flywheel.corpus import reference
from flywheel.release import ownership
from flywheel.schema import EndState, FlywheelError, Trajectory
from flywheel.server.access import allowed, visible
from flywheel.server.describing import JSON, LINES, answers, content
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.views.messages import to_messages

router = APIRouter(tags=["read"])

PAGE = 100
ROOT = "/api/v1/workspaces"
ID = ROOT + "/{workspace}/trajectories/{id:path}"
CORPORA = ROOT + "/{workspace}/corpora"
READ = Depends(allowed("read"))
Here = Annotated[Running, Depends(running)]
Limit = Annotated[int | None, Query(ge=1, le=1000, description=f"Rows; {PAGE} unless given, all of a stream.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.")]
View = Literal["summary", "record", "chat"]


class Asked(BaseModel, extra="forbid"):
    """Which trajectories, in what form, from where on."""

    task_type: str | None = None
    agent: str | None = None
    model: str | None = None
    end_state: EndState | None = None
    since: Annotated[AwareDatetime | None, Query(description="Arrived then or later.")] = None
    until: Annotated[AwareDatetime | None, Query(description="Arrived then or before.")] = None
    outcome: Annotated[bool | None, Query(description="Whether any outcome is known.")] = None
    view: View = "summary"
    cursor: Cursor = None
    limit: Limit = None


class AskedInputs(BaseModel, extra="forbid"):
    """Which quarantined inputs, from where on."""

    since: Annotated[AwareDatetime | None, Query(description="Arrived then or later.")] = None
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


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """A corpus, its newest version, and how many it has."""

    name: str
    newest: int
    versions: int


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a corpus: what it was asked for, what it holds, and the digest that names its content."""

    name: str
    version: int
    branch: str
    digest: str
    as_of: datetime
    rows: int
    splits: dict[str, int]
    candidates: int
    reasons: dict[str, int]
    parents: tuple[int, ...]
    recipe: dict[str, Any]
    created_at: datetime


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
        start = stored.after(asked.cursor)
        return stored.trajectories(here.home, workspace, wanted, start, limit and limit + 1)

    return await _answer(here, workspace, begin, VIEWS[asked.view], limit, lines)


@router.get(ID, dependencies=[READ], responses=answers((Trajectory, Chat), "The trajectory."))
async def trajectory(
    workspace: str, id: str, here: Here, view: Annotated[Literal["record", "chat"], Query()] = "record"
) -> Response:
    """One trajectory: the record as it is stored, or as chat messages."""
    found = await _read(here, lambda: stored.one(here.home, workspace, id))
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
        start = stored.after(asked.cursor)
        return stored.quarantine(here.home, workspace, asked.since, start, limit and limit + 1)

    return await _answer(here, workspace, begin, stored.inputs, limit, lines)


@router.get(CORPORA, dependencies=[READ], responses=answers(list[Corpus], "The corpora of the workspace."))
def corpora(workspace: str, here: Here) -> Response:
    """The corpora that came of this workspace alone."""
    found = [(name, manifests.versions(here.home, name)) for name in _corpora(here, workspace)]
    return _said([Corpus(name=name, newest=known[-1], versions=len(known)) for name, known in found])


@router.get(CORPORA + "/{name}/versions", dependencies=[READ], responses=answers(list[Version], "Newest first."))
def versions(workspace: str, name: str, here: Here) -> Response:
    """The versions of a corpus."""
    _owned(here, workspace, name)
    return _said([_version(here, name, number) for number in reversed(manifests.versions(here.home, name))])


@router.get(CORPORA + "/{name}/versions/{version}", dependencies=[READ], responses=answers(Version, "The version."))
def version(workspace: str, name: str, version: str, here: Here) -> Response:
    """A version of a corpus: `v3`, `latest`, the newest of a branch, or a tag."""
    _owned(here, workspace, name)
    try:
        return _said(_version(here, name, reference.within(version)))
    except FlywheelError as error:
        raise HTTPException(404, str(error)) from error


def _corpora(here: Running, workspace: str) -> list[str]:
    return [name for name in manifests.names(here.home) if ownership.corpus(here.home, name) == {workspace}]


def _owned(here: Running, workspace: str, name: str) -> None:
    """Refuse a corpus that is not there, or another workspace's, in the same words."""
    if name not in _corpora(here, workspace):
        raise HTTPException(404, f"workspace {workspace!r} has no corpus of that name")


def _version(here: Running, name: str, ref: int | str | None) -> Version:
    return msgspec.convert(manifests.manifest(here.home, name, ref), Version, from_attributes=True)


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


async def _read(here: Running, work: Callable[[], Any]) -> Any:
    """Do what asks the tables, in a thread, a few at a time."""
    async with here.reading:
        try:
            return await run_in_threadpool(work)
        except duckdb.IOException as error:
            raise Refused(503, "rows are being erased just now", retry_after_s=5) from error


async def _answer(
    here: Running,
    workspace: str,
    begin: Callable[[], pa.Table],
    view: Callable[[pa.Table], Iterator[Sequence[Any]]],
    limit: int | None,
    lines: bool,
) -> StreamingResponse:
    """Rows as they are read, so that memory holds a few of them, whatever the page."""
    places = await _read(here, begin)
    shown = places if limit is None else places.slice(0, limit)
    next = stored.cursor(shown) if places.num_rows > shown.num_rows else None
    parts = view(shown)
    # What is wrong with the first rows can still be told by the status.
    first = await _read(here, lambda: _encoded(parts, lines))

    async def body() -> AsyncIterator[bytes]:
        if not lines:
            yield b'{"items":['
        part, between = first, b""
        while part is not None:
            yield between + part
            between = b"" if lines else b","
            part = await _read(here, lambda: _encoded(parts, lines))
        if not lines:
            through = await run_in_threadpool(stored.through, here.home, workspace)
            yield b'],"next":' + msgspec.json.encode(next) + b',"through":' + msgspec.json.encode(through) + b"}"

    return StreamingResponse(body(), media_type=LINES if lines else JSON)


def _encoded(parts: Iterator[Sequence[Any]], lines: bool) -> bytes | None:
    part = next(parts, None)
    if part is None:
        return None
    return b"".join(msgspec.json.encode(row) + b"\n" for row in part) if lines else msgspec.json.encode(part)[1:-1]
