"""Who may do what over HTTP: the token of a request, and what is open to this machine without one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from flywheel import artifacts
from flywheel.capture import access, workspaces
from flywheel.capture.access import ROLES, TOKEN, Denied, Grant, Role
from flywheel.capture.audit import audit
from flywheel.server.running import Running, running
from flywheel.settings import checked_name

OWN = "x-flywheel-token"
# Where clients of models put their key: ours may stand there too, before theirs.
KEYS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_OURS = re.compile(rf"(\S+\s+)?({TOKEN.pattern})(?::(.*))?", re.S)
# Whoever comes through a proxy is not at this machine, though the proxy is.
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

HERE = "this machine"

# They only describe; the token is read from the headers themselves.
_SCHEMES = (
    HTTPBearer(auto_error=False, description="A workspace's token, `fw_...`."),
    APIKeyHeader(name="X-Flywheel-Token", auto_error=False, description="A workspace's token, `fw_...`."),
)


def token(headers: Headers) -> str | None:
    """The token of a request: `X-Flywheel-Token`, else `Authorization: Bearer`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return headers.get(OWN) or (key.strip() if scheme.lower() == "bearer" else "") or None


def split(headers: Headers) -> tuple[str | None, list[tuple[bytes, bytes]]]:
    """The token of a request to the gateway, and the header pairs without it, for the model's server.

    The token is in `X-Flywheel-Token`, or stands for the API key (`fw_TOKEN`), or before it (`fw_TOKEN:KEY`). A key
    of another service stays as it is, also where it begins with `fw_`.
    """
    found: dict[str, str] = {}
    passed: list[tuple[bytes, bytes]] = []
    for raw, value in headers.raw:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        if name == OWN:
            found.setdefault(name, text.strip())
            continue
        if name in KEYS and (ours := _OURS.fullmatch(text.strip())):
            scheme, token, key = ours.groups(default="")
            found.setdefault(name, token)
            if key:
                passed.append((raw, f"{scheme}{key}".encode("latin-1")))
            continue
        passed.append((raw, value))
    return next((found[name] for name in (OWN, *KEYS) if found.get(name)), None), passed


def allowed(role: Role) -> Callable[..., Awaitable[Grant]]:
    """A dependency that lets those through who have a role in the `workspace` of the path, and gives their grant."""

    async def grant(
        request: Request,
        workspace: Annotated[str, Path(description="The workspace.")],
        _bearer: Annotated[object, Depends(_SCHEMES[0])],
        _header: Annotated[object, Depends(_SCHEMES[1])],
    ) -> Grant:
        given = token(request.headers)
        target = " ".join(value for name, value in request.path_params.items() if name != "workspace")
        return await admitted(request, workspace, role, given, target=target)

    return grant


async def admitted(request: Request, workspace: str, role: Role, token: str | None, *, target: str = "") -> Grant:
    """The grant that a request goes by; whatever comes of it is in the audit log.

    Raises:
        Denied: without a token that does, unless nobody guards the workspace and the request is this machine's.
        HTTPException: 404, for a workspace that is not there, to whom may see all.
    """
    # Reading tokens here takes microseconds; from an object store it waits for another machine.
    # A plain route is told by what it does, for its path has names that somebody sent.
    scope = request.scope
    route = getattr(scope.get("route"), "path", None) or type(scope.get("endpoint")).__name__.lower()
    server = running(request)
    ask = (server, request.headers, workspace, role, token, f"{request.method} {route}", target)
    grant = await run_in_threadpool(_admitted, *ask) if artifacts.remote(server.home.workspaces) else _admitted(*ask)
    if grant.id and (client := scope.get("flywheel.client")):
        server.knows(client)
    return grant


def visible(request: Request) -> list[str]:
    """The workspaces in which the caller has a role, in order of name.

    Raises:
        Denied: when there are some, and the caller has one in none.
    """
    server, given, names = running(request), token(request.headers), workspaces.names(running(request).home)
    found: list[str] = []
    reasons: list[Denied] = []
    for name in names:
        for role in ROLES:
            try:
                _grant(server, request.headers, name, role, given, True, server.clock())
            except Denied as denied:
                reasons.append(denied)
            else:
                found.append(name)
                break
    if names and not found and given is None:
        raise Denied("missing", "a token is needed: send it as Authorization: Bearer fw_...", "no token")
    if names and not found:
        # Of a token that is known in one workspace, the others know only that it is not theirs.
        raise next((denied for denied in reasons if denied.reason != "workspace"), reasons[0])
    return found


def _admitted(
    server: Running, headers: Headers, workspace: str, role: Role, token: str | None, action: str, target: str
) -> Grant:
    home, now = server.home, server.clock()
    there = (home.workspaces / f"{checked_name(workspace, 'workspace')}.json").exists()

    def note(who: str, reason: str = "") -> None:
        # A name that is not a workspace's, like a target of it, is whatever somebody sent.
        of, about = (workspace, target) if there else ("?", "")
        audit(home, workspace=of, action=action, who=who, target=about, allowed=not reason, reason=reason, now=now)

    try:
        grant = _grant(server, headers, workspace, role, token, there, now)
    except Denied as denied:
        note(denied.who, denied.reason)
        raise
    try:
        note(grant.who)
    except OSError:
        # As on a disk that is full: what nobody guards goes on.
        if grant.id:
            raise
    if not there:
        raise HTTPException(
            404, f"there is no workspace {workspace!r}; create it with: flywheel workspace create {workspace}"
        )
    return grant


def _grant(
    server: Running, headers: Headers, workspace: str, role: Role, token: str | None, there: bool, now: datetime
) -> Grant:
    local = _from_here(server.config.host, headers)
    # Where nobody guards anything nothing is hidden, and who mistook a workspace's name is told that.
    unguarded = [workspace] if there else [workspace, *workspaces.names(server.home)]
    if local is None and not any(access.guarded(server.home, name) for name in unguarded):
        return access.anyone(HERE, workspace)
    # What is said does not tell apart a workspace that is guarded and one that is not there.
    if token is None and local is not None:
        raise Denied("missing", f"{access.missing(workspace)}; {local}", "no token")
    return access.check(server.home, workspace, role, token, now)


def _from_here(host: str, headers: Headers) -> str | None:
    """None where a request can only be of somebody at this machine; else why it may not do without a token.

    A page of another site that a browser here shows could send one too, also under a name of its own that it lets
    point to this machine (DNS rebinding): its Host, Origin or Sec-Fetch-Site tell.
    """
    if not loopback(host):
        return "this server listens beyond its own machine: no workspace can be used without a token"
    named, origins = ",".join(headers.getlist("host")), headers.getlist("origin")
    try:
        asked = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        asked = ""
    if not loopback(asked) or "@" in named:
        return "without a token, ask this server as 127.0.0.1 or localhost"
    if any(origin.lower() != f"http://{named.lower()}" for origin in origins):
        return "a page of another site may not use this server without a token"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "a page of another site may not use this server without a token"
    if any(name in headers for name in FORWARDED):
        return "what comes through a proxy needs a token"
    return None


def loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, which nothing else can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
