"""The audit log: who did what in which workspace, or was refused, a JSON line each, by day."""

from __future__ import annotations

import errno
import os
import pwd
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from flywheel.settings import NAME, Home

# Whatever a caller sends as a name may be a token that went astray.
_TOKEN = re.compile(r"fw_[0-9a-f]+")
_LONGEST = 200


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was asked for: by whom (token's name and id, or a user of the machine), and whether it was let.

    `action` is a command or a route. `target` names what it was about, never by its content, and is redacted. `reason`
    says why it was denied.
    """

    at: datetime
    who: str
    action: str
    workspace: str
    target: str = ""
    allowed: bool = True
    reason: str = ""


def audit(
    home: Home,
    *,
    workspace: str,
    action: str,
    who: str,
    target: str = "",
    allowed: bool = True,
    reason: str = "",
    now: datetime | None = None,
) -> None:
    """Append to the audit log, on this machine: one write, so that lines of several processes never mix."""
    event = Event(
        at=now or datetime.now(UTC),
        who=_plain(who),
        action=_plain(action),
        workspace=_plain(workspace),
        target=_plain(_redacted(home, workspace, target)) if target else "",
        allowed=allowed,
        reason=reason,
    )
    home.audit.mkdir(parents=True, exist_ok=True)
    path = home.audit / f"{event.at:%Y-%m-%d}.jsonl"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        line = msgspec.json.encode(event) + b"\n"
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # what a crash tore stays a line of its own
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def _redacted(home: Home, workspace: str, target: str) -> str:
    from flywheel.capture.redaction.redact import Redactor, redactor  # the detectors take a while to import

    return (redactor(home, workspace) if NAME.fullmatch(workspace) else Redactor()).text(target)


def events(home: Home, *, since: datetime | None = None) -> Iterator[Event]:
    """What was asked for since a moment, oldest first. A line that a crash tore is left out."""
    for path in sorted(home.audit.glob("*.jsonl")):
        if since is not None and path.stem < f"{since.astimezone(UTC):%Y-%m-%d}":
            continue
        with path.open("rb") as lines:
            for line in lines:
                try:
                    event = msgspec.json.decode(line, type=Event)
                except msgspec.MsgspecError:
                    continue
                if since is None or event.at >= since:
                    yield event


def user() -> str:
    """The user of this machine that this process runs as."""
    try:
        return f"user {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"user {os.getuid()}"


def _plain(text: str) -> str:
    return _TOKEN.sub("fw_...", text[:_LONGEST]).encode("utf-8", "replace").decode()
