"""`/w/{workspace}/v1/...`: calls of models, passed on to their servers as they are, and captured beside the stream."""

from __future__ import annotations

import asyncio
import os
import re
from concurrent.futures import Future
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.datastructures import State
from starlette.requests import Request as Incoming
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flywheel.capture.gateway.calls import INTERFACES, Call, Named, Request
from flywheel.capture.gateway.remembered import Remembered
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.journals.events import Closed, SetAside
from flywheel.capture.journals.journal import Full
from flywheel.capture.journals.threads import Threads
from flywheel.capture.quarantine import refused
from flywheel.capture.redaction.redact import redactor
from flywheel.server import access, passing, upstreams
from flywheel.server.errors import Refused
from flywheel.server.running import Running, running
from flywheel.server.upstreams import Asking, Remote, Upstream

LONGEST_NAME = 200  # characters
TELLING = {
    b"x-flywheel-task": "task_id",
    b"x-flywheel-task-group": "task_group",
    b"x-flywheel-task-type": "task_type",
    b"x-flywheel-agent": "agent",
    b"x-flywheel-agent-version": "agent_version",
}
OF_AZURE = re.compile("^deployments/[^/]+/")  # stands before what it has in common with others
LONG = 2**16  # bytes of a request and its answer
PIECES = 500_000  # objects and lists of a request: a longer one of empty messages takes gigabytes to read
ROOM = 16 * 2**20  # bytes that are free on the disk when a call is passed on


class Kept:
    """What is kept of a workspace's calls: on disk by `threads`, and for a while in memory."""

    def __init__(self, server: Running, workspace: str) -> None:
        self._server, self._workspace = server, workspace
        self._threads = Threads(server.home, workspace, server.writer(workspace))
        self._remembered = Remembered()
        redactor(server.home, workspace)  # its rules are made ready now, and not when an answer ends

    async def keep(self, call: Call, broken: str) -> None:
        """Have a call on disk, however far it came. Raises Full where the disk cannot take it."""
        # What is long is read and redacted aside: other streams go on.
        written = await asyncio.to_thread(self._put, call, broken) if call.size > LONG else self._put(call, broken)
        await asyncio.wrap_future(written)

    def _put(self, call: Call, broken: str) -> Future[Any]:
        body = call.request.body
        if body.count(b"{") + body.count(b"[") > PIECES:
            why = f"a call of more than {PIECES:,} objects and lists: it passed, and was not read"
        elif exchange := call.exchange(self._remembered, broken):
            return self._threads.put(exchange)
        else:
            why = "a call in which no message could be read, and none in its answer"
        told = [(None, why, body[: 4 * EXCERPT].decode("utf-8", "replace"))]
        name = f"gateway {call.request.api.NAME}"
        aside = refused(self._server.home, self._workspace, name, told, self._server.clock())
        return self._server.writer(self._workspace).put([*map(SetAside, aside)])


class Gateway:
    """Passes requests on and captures those that are calls. Plain ASGI: nothing of a framework between the pieces."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = ROUTES["trajectory" in scope["path_params"]]  # logs name a route, and no path
        incoming = Incoming(scope, receive)
        server = running(incoming)
        workspace, path = scope["path_params"]["workspace"], _path(scope)
        token, headers = access.split(incoming.headers)
        await access.admitted(incoming, workspace, "capture", token)
        body = await incoming.body()
        passed = upstreams.passed(headers)
        upstream, target = _upstream(server, path, incoming)
        api = INTERFACES.get(OF_AZURE.sub("", path.strip("/"))) if scope["method"] == "POST" else None
        if api:
            # What came packed could not be read beside the stream.
            passed = [*(pair for pair in passed if pair[0] != b"accept-encoding"), (b"accept-encoding", b"identity")]
        if scope["query_string"]:
            target = f"{target}?{scope['query_string'].decode('latin-1')}"
        asking = Asking(scope["method"], target, passed, body)
        way = passing.Way(receive, send)
        if api is None:
            await passing.passed(upstream, asking, way)
            return
        _room(server)
        named = _named(incoming, scope["path_params"].get("trajectory", ""))
        request = Request(api=api, body=body, upstream=upstream.url, named=named, at=server.clock())
        call = Call(request, bound=server.config.body_bytes, clock=server.clock)
        kept = await _kept(scope["app"].state, server, workspace)
        await passing.captured(upstream, asking, way, call, partial(kept.keep, call))


async def _kept(state: State, server: Running, workspace: str) -> Kept:
    """What this server keeps of a workspace."""
    if not hasattr(state, "gateway"):
        state.gateway = {}
    every: dict[str, asyncio.Future[Kept]] = state.gateway
    if workspace not in every:
        every[workspace] = asyncio.ensure_future(asyncio.to_thread(Kept, server, workspace))
    try:
        return await asyncio.shield(every[workspace])
    except Exception:
        every.pop(workspace, None)  # the next call tries again
        raise


def _path(scope: Scope) -> str:
    """What of the path follows `/v1/`, as it was written."""
    before = 6 if "trajectory" in scope["path_params"] else 4
    parts = scope["raw_path"].decode("latin-1").split("/")[before:]
    # A server of models may read more than a slash as one, and leave out what follows a semicolon.
    inner = [part.replace("%2e", ".").partition(";")[0] for part in re.split(r"/|\\|%2f|%5c", "/".join(parts).lower())]
    if "." in inner or ".." in inner:
        raise Refused(404, "a path of the gateway has no dots for parts")
    return "/".join(parts)


def _upstream(server: Running, path: str, incoming: Incoming) -> tuple[Upstream, str]:
    """Who is asked, and for which path: the base URL of Anthropic has no `/v1`."""
    config = server.config
    of_anthropic = path.partition("/")[0] == "messages" or "anthropic-version" in incoming.headers
    if config.champion and not of_anthropic:
        return _champion(incoming.app.state, server), f"/{path}"
    url = config.anthropic if of_anthropic else config.openai
    return Remote(server.session, url, silence_s=config.silence_s), f"/v1/{path}" if of_anthropic else f"/{path}"


def _champion(state: State, server: Running) -> Upstream:
    """The policy that serves; one for all, so that its model is loaded once."""
    from flywheel.server.champion import Champion

    if not hasattr(state, "champion"):
        state.champion = Champion(server.home)
    return state.champion


def _named(incoming: Incoming, trajectory: str) -> Named:
    """What the client says beside the call."""
    said = {name: upstreams.text(value) for name, value in incoming.headers.raw if name.startswith(upstreams.OURS)}
    about = {field: said[name] for name, field in TELLING.items() if said.get(name)}
    trajectory = trajectory or said.get(b"x-flywheel-trajectory", "")
    if any(len(name) > LONGEST_NAME for name in (trajectory, *about.values())):
        raise Refused(400, f"a name in a header X-Flywheel-... or in the path has at most {LONGEST_NAME} characters")
    return Named(trajectory=trajectory, about=about)


def _room(server: Running) -> None:
    """Raises Full where the disk is so full that what comes back could not be kept."""
    disk = os.statvfs(server.home.root)
    if disk.f_bavail * disk.f_frsize < ROOM:
        raise Full(f"the disk of {server.home.root} is full: nothing was passed on; free some space and try again")


router = APIRouter(tags=["gateway"])


@router.post("/w/{workspace}/t/{trajectory}/end", dependencies=[Depends(access.allowed("capture"))])
async def end(
    workspace: str,
    trajectory: Annotated[str, Path(description="The name that its calls gave it.", max_length=LONGEST_NAME)],
    server: Annotated[Running, Depends(running)],
) -> dict[str, str]:
    """Say that a trajectory is over, so that it is stored without waiting for it to be quiet."""
    thread = redactor(server.home, workspace).identifier(trajectory)  # as its calls are named
    await server.writer(workspace).write([Closed(thread=thread, at=server.clock())])
    return {"trajectory": trajectory}


# Beside the router: plain routes, for which nothing of FastAPI stands between the pieces of an answer.
ROUTES = [
    Route(path, Gateway(), name="gateway", include_in_schema=False)
    for path in ("/w/{workspace}/v1/{path:path}", "/w/{workspace}/t/{trajectory}/v1/{path:path}")
]
