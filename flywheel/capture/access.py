"""Access to workspaces: tokens with roles that are shown once, kept as hashes, expire and can be revoked."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.audit import audit as audit
from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name

Role = Literal["capture", "read", "export", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

# 256 random bits. Other services' keys begin with `fw_` too: ours are told by their length and alphabet.
TOKEN = re.compile(r"fw_[0-9a-f]{64}")

ALL = "*"
# Beside the workspaces' own folders: no workspace's name begins so.
_ALL_FOLDER = "_all"

Reason = Literal["missing", "unknown", "expired", "revoked", "workspace", "role"]


class Denied(FlywheelError):
    """A token was needed that was not given, or does not do; `who` names its holder for the audit log."""

    def __init__(self, reason: Reason, message: str, who: str = "unknown token") -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.who = who


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may do, as it is kept: `sha256` is of the token, which is kept nowhere.

    `workspace` is "*" for all workspaces, those to come included. An empty `id` stands for whoever is at the machine.
    """

    id: str
    name: str
    workspace: str
    roles: tuple[Role, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    sha256: str = ""

    @property
    def who(self) -> str:
        """How the audit log names its holder."""
        return f"{self.name} ({self.id})" if self.id else self.name

    def state(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Whether its token still does."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"

    def may(self, role: Role) -> bool:
        """Whether it has a role; an admin has all of them."""
        return role in self.roles or "admin" in self.roles


def issue(
    home: Home,
    workspace: str,
    roles: Collection[Role],
    *,
    name: str,
    expires_in: timedelta | None = None,
    now: datetime | None = None,
) -> tuple[str, Grant]:
    """Make a token for a workspace ("*": for all) and return it with its grant: this once, for it is kept nowhere.

    From its first token on a workspace is guarded. Who may ask for a token is the caller's to check.

    Raises:
        FlywheelError: for a workspace that is not there, and when its first token is no admin's: nobody could make
            another.
    """
    if workspace != ALL:
        workspaces.require(home, workspace)
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise FlywheelError(f"there is no role {', '.join(unknown) or '(none given)'}; give some of {', '.join(ROLES)}")
    if expires_in is not None and expires_in <= timedelta():
        raise FlywheelError("a token must expire later than now; leave the time out for one that does not expire")
    if "admin" not in roles and not guarded(home, workspace):
        of = "all workspaces" if workspace == ALL else f"workspace {workspace!r}"
        raise FlywheelError(
            f"the first token of {of} must be an admin's, who can make others: "
            f"flywheel token create -w '{workspace}' --role admin --name NAME"
        )
    token = f"fw_{secrets.token_hex(32)}"
    now = now or datetime.now(UTC)
    grant = Grant(
        id=secrets.token_hex(6),
        name=checked_name(name, "token name"),
        workspace=workspace,
        roles=tuple(role for role in ROLES if role in roles),
        created_at=now,
        expires_at=None if expires_in is None else now + expires_in,
        sha256=_digest(token),
    )
    artifacts.write_json(_folder(home, workspace) / f"{grant.id}.json", grant)
    return token, grant


def revoke(home: Home, workspace: str, id: str, *, now: datetime | None = None) -> Grant:
    """Take a token back, from now on and for ever; one that was revoked stays as it is.

    Raises:
        FlywheelError: when the workspace has no such token.
    """
    for grant in grants(home, workspace):
        if grant.id == id:
            if grant.revoked_at is None:
                grant = msgspec.structs.replace(grant, revoked_at=now or datetime.now(UTC))
                artifacts.write_json(_folder(home, workspace) / f"{grant.id}.json", grant)
            return grant
    raise FlywheelError(f"workspace {workspace!r} has no token {id!r}; list them with: flywheel token list")


def grants(home: Home, workspace: str) -> list[Grant]:
    """The tokens of one workspace ("*": those for all), revoked and expired ones too, oldest first.

    Each call lists the folder anew, so what any process changes counts at once; a file is read again once it changed.
    """
    return sorted(_kept(home, workspace), key=lambda grant: (grant.created_at, grant.id))


def guarded(home: Home, workspace: str) -> bool:
    """Whether a workspace needs a token: from its first one on, or the first one for all workspaces, for ever.

    One that does not exist is guarded where all are.
    """
    return any(_kept(home, of) for of in dict.fromkeys((workspace, ALL)))


def check(home: Home, workspace: str, role: Role, token: str | None, now: datetime | None = None) -> Grant:
    """The grant of a token that may do this in a workspace.

    Compared are hashes, each with every candidate, in constant time. A workspace that does not exist denies as one
    whose tokens are others.

    Raises:
        Denied: for any other token, and for none.
    """
    if not token:
        raise missing(workspace)
    digest = _digest(token)
    own = [grant for of in dict.fromkeys((workspace, ALL)) for grant in _kept(home, of)]
    grant = _match(own, digest)
    if grant is None:
        others = [grant for name in workspaces.names(home) for grant in _kept(home, name)]
        if other := _match(others, digest):
            why = f"this token is for another workspace than {workspace!r}: use one of its own"
            raise Denied("workspace", why, other.who)
        raise Denied(
            "unknown", "this token is not known here: see that it is whole (fw_ and 64 digits), or ask for one"
        )
    state = grant.state(now or datetime.now(UTC))
    if state != "valid":
        verb = "is" if state == "revoked" else "has"
        raise Denied(state, f"token {grant.who} {verb} {state}: ask for another", grant.who)
    if not grant.may(role):
        why = f"token {grant.who} has {', '.join(grant.roles)}; this needs {role} in {workspace!r}"
        raise Denied("role", why, grant.who)
    return grant


def missing(workspace: str) -> Denied:
    """What is said where no token was given, of a workspace that is guarded or not there."""
    return Denied(
        "missing",
        f"workspace {workspace!r} cannot be used without a token, if it is there at all: set FLYWHEEL_TOKEN, or send "
        "it as Authorization: Bearer fw_...; an admin of the workspace makes one with: flywheel token create",
        "no token",
    )


def anyone(who: str, workspace: str) -> Grant:
    """What whoever is at the machine may do in a workspace that nobody guards."""
    return Grant(id="", name=who, workspace=workspace, roles=ROLES, created_at=datetime.now(UTC))


def _digest(token: str) -> str:
    # What holds 256 random bits needs no salt and no slow hash. Header values may hold any character.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _match(candidates: Iterable[Grant], digest: str) -> Grant | None:
    found = None
    for grant in candidates:
        if hmac.compare_digest(grant.sha256, digest):
            found = grant
    return found


def _folder(home: Home, workspace: str) -> Path:
    return home.workspaces / (_ALL_FOLDER if workspace == ALL else checked_name(workspace, "workspace")) / "tokens"


def _kept(home: Home, workspace: str) -> list[Grant]:
    """The grants of a workspace, each read again once its file changed."""
    folder = _folder(home, workspace)
    found: list[Grant] = []
    for path, stamp in _listed(folder):
        # One that is gone by now leaves the others, or a workspace would be open for a moment.
        with suppress(FileNotFoundError):
            found.append(_grant(path, stamp or _stamp(path)))
    return found


def _listed(folder: Path) -> list[tuple[Path | str, tuple[Any, ...]]]:
    """The files of grants in a folder; of an object store's, with what changes when they do."""
    try:
        if artifacts.remote(folder):
            listed = folder.fs.ls(str(folder), detail=True, refresh=True)  # pyright: ignore[reportAttributeAccessIssue]  # a UPath
            files = [(folder / Path(of["name"]).name, (of.get("ETag"), of.get("LastModified"))) for of in listed]
            return [(path, stamp) for path, stamp in files if path.suffix == ".json"]
        with os.scandir(folder) as entries:
            return [(of.path, ()) for of in entries if of.name.endswith(".json")]
    except FileNotFoundError:
        return []


def _stamp(path: Path | str) -> tuple[int, ...]:
    of = Path(path).stat()
    return of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_size


@functools.lru_cache(maxsize=4096)
def _grant(path: Path | str, stamp: tuple[Any, ...]) -> Grant:
    data = Path(path).read_bytes() if isinstance(path, str) else path.read_bytes()
    return msgspec.json.decode(data, type=Grant)
