"""Workspaces: isolated places for captures, registered by name before anything is written to them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """A registered workspace."""

    name: str
    created_at: datetime


def create(home: Home, name: str, now: datetime | None = None) -> Workspace:
    """Register a workspace; one that exists is left as it is and returned."""
    path = home.workspaces / f"{checked_name(name, 'workspace')}.json"
    if not path.exists():
        artifacts.write_json(path, Workspace(name=name, created_at=now or datetime.now(UTC)))
    return msgspec.json.decode(path.read_bytes(), type=Workspace)


def names(home: Home) -> list[str]:
    """The names of all workspaces, in order."""
    return sorted(path.stem for path in home.workspaces.glob("*.json"))


def require(home: Home, name: str) -> Workspace:
    """The workspace of a name; an error that says how to create it where there is none."""
    path = home.workspaces / f"{checked_name(name, 'workspace')}.json"
    if not path.exists():
        there = ", ".join(names(home)) or "none"
        raise FlywheelError(
            f"there is no workspace {name!r} (there are: {there}); create it with: flywheel workspace create {name}"
        )
    return msgspec.json.decode(path.read_bytes(), type=Workspace)


def all_workspaces(home: Home) -> list[Workspace]:
    """All workspaces, in order of name."""
    return [require(home, name) for name in names(home)]
