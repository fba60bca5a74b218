"""`flywheel token` and `flywheel audit`: who may use which workspace, and who did what in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from flywheel import settings
from flywheel.capture import access as tokens
from flywheel.capture.access import ALL, Grant
from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.cli.times import MOMENTS, utc
from flywheel.schema import FlywheelError

token_app = typer.Typer(help="Tokens: who may use a workspace, until when, and for what.", no_args_is_help=True)
app.add_typer(token_app, name="token")

Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace; '*' for all of them.")]


class RoleName(StrEnum):
    """What a token may be for."""

    capture = "capture"
    read = "read"
    export = "export"
    admin = "admin"


UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@token_app.command("create")
def create(
    workspace: Workspace,
    name: Annotated[str, typer.Option(help="Whose it is or what for, as the audit log will name it.")],
    role: Annotated[list[RoleName], typer.Option(help="What it may do; may be repeated. An admin may do all.")],
    expires: Annotated[str, typer.Option(help="When it ends: 12h, 90d, 8w, or never.")] = "90d",
    json: Json = False,
) -> None:
    """Make a token and print it, this once: what is kept is its hash.

    From its first token on a workspace is guarded: nothing in it can be used without one. Anybody at this machine may
    make the first, which is an admin's; further ones take an admin's token in FLYWHEEL_TOKEN.

    Example: flywheel token create -w support --role admin --name ada

    Example: flywheel token create -w support --role capture --name gateway --expires never --json
    """
    home = _admin(workspace, f"token {name}")
    first = not tokens.guarded(home, workspace)
    made, grant = tokens.issue(home, workspace, [of.value for of in role], name=name, expires_in=_time(expires))
    if json:
        emit({"token": made, **_told(grant)})
        return
    of = "all workspaces" if workspace == ALL else f"workspace {workspace}"
    until = f"until {grant.expires_at:%Y-%m-%d %H:%M} UTC" if grant.expires_at else "and does not expire"
    say(f"token {grant.who} may {', '.join(grant.roles)} in {of} {until}. It is shown this once:")
    typer.echo(made)
    if first:
        guarded, them = ("are", "them") if workspace == ALL else ("is", "it")
        say(f"{of} {guarded} guarded from now on: set FLYWHEEL_TOKEN to use {them}")


@token_app.command("list")
def list_tokens(
    workspace: Annotated[
        str | None,
        typer.Option("--workspace", "-w", help="One workspace, or '*'; all that one is admin of unless given."),
    ] = None,
    json: Json = False,
) -> None:
    """List the tokens of workspaces: whose they are, what they may do, until when. The tokens themselves are not kept.

    Example: flywheel token list -w support --json
    """
    home = settings.home()
    if workspace is not None:
        _admin(workspace)
        asked = [workspace]
    else:
        found = access.visible("admin")
        asked = [*found.workspaces, *([ALL] if found.everything else [])]
    grants = [grant for name in asked for grant in tokens.grants(home, name)]
    if json:
        emit([_told(grant) for grant in grants])
        return
    now = datetime.now(UTC)
    columns = ["id", "name", "workspace", "roles", "state", "created", "expires", "revoked"]
    rows = [
        (g.id, g.name, g.workspace, g.roles, g.state(now), g.created_at, g.expires_at or "never", g.revoked_at)
        for g in grants
    ]
    table("tokens", columns, rows)


@token_app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(help="The token's id, as `flywheel token list` tells it.")],
    workspace: Workspace,
    json: Json = False,
) -> None:
    """Take a token back: at once, also where a server runs, and for ever. The workspace stays guarded.

    Example: flywheel token revoke 5d1f0c2a9b3e -w support
    """
    home = _admin(workspace, f"token {id}")
    grant = tokens.revoke(home, workspace, id)
    if json:
        emit(_told(grant))
    else:
        say(f"token {grant.who} is revoked")
    now = datetime.now(UTC)
    left = [g for of in dict.fromkeys((workspace, ALL)) for g in tokens.grants(home, of) if g.state(now) == "valid"]
    if not any(g.may("admin") for g in left):
        say("no admin's token is left: nobody can make another, but by removing the folder `tokens` of the workspace")


@app.command("audit")
def audit(
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="One workspace; all that one is admin of unless given.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="From this moment on (UTC); all unless given.", formats=MOMENTS)
    ] = None,
    json: Json = False,
) -> None:
    """Show who used which workspace for what on this machine, and who was refused.

    Example: flywheel audit -w support --since 2026-11-09

    Example: flywheel audit --json
    """
    from flywheel.capture.audit import events

    home = settings.home()
    moment = utc(since) if since else None
    if workspace is not None:
        access.allowed("admin", workspace)
        found = [event for event in events(home, since=moment) if event.workspace == workspace]
    else:
        seen = access.visible("admin")
        told = events(home, since=moment)
        found = [event for event in told if seen.everything or event.workspace in seen.workspaces]
    if json:
        emit(found)
        return
    columns = ["at", "who", "action", "workspace", "target", "allowed", "reason"]
    table("audit", columns, [[getattr(event, column) for column in columns] for event in found])


def _admin(workspace: str, target: str = "") -> settings.Home:
    """The data folder, for an admin of a workspace, or of all."""
    return access.everywhere("admin", target) if workspace == ALL else access.allowed("admin", workspace, target)


def _told(grant: Grant) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(grant).items() if name != "sha256"}


def _time(text: str) -> timedelta | None:
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})([mhdw])", text)
    if match is None:
        raise FlywheelError(f"--expires is {text!r}; write it as 30m, 12h, 90d, 8w, or never")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
