"""The history of releases: an append-only file of events, each durable when its call returns."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from flywheel import artifacts
from flywheel.release.gate import Reason
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One decision: what happened to which policy, by which report, and who served before.

    A `keep` names the candidate that was refused; a `rollback` the policy that serves again.
    """

    kind: Literal["promote", "keep", "rollback"]
    policy_id: str
    digest: str
    previous: str | None
    report: str | None
    reasons: tuple[Reason, ...] = ()
    at: datetime


def path(home: Home) -> Path:
    """Where the history lies."""
    return home.registry / "history.jsonl"


def read(home: Home) -> list[Event]:
    """All events, oldest first. A last line that a crash tore was never acknowledged, and is passed over.

    Raises:
        FlywheelError: when a whole line cannot be read: no crash does that.
    """
    file = path(home)
    if not file.exists():
        return []
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    events: list[Event] = []
    for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.MsgspecError as error:
            raise FlywheelError(f"{file}, line {number} is damaged ({error}); restore the file from a copy") from error
    return events


def append(home: Home, event: Event) -> None:
    """Add an event, durably; call it while holding `alone`."""
    file = path(home)
    new = not file.exists()
    with file.open("a+b") as handle:
        handle.seek(0)
        data = handle.read()
        # A torn tail would spoil the line that follows it.
        handle.truncate(data.rfind(b"\n") + 1)
        handle.write(msgspec.json.encode(event) + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
    if new:
        artifacts.fsync_folder(file.parent)


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Hold the registry's lock: one writer at a time; it falls with the process, however that ends."""
    home.registry.mkdir(parents=True, exist_ok=True)
    with (home.registry / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
