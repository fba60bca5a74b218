"""The one place that reads environment variables: where the data folder is, and where things lie in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from flywheel.schema import FlywheelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def checked_name(name: str, what: str = "name") -> str:
    """A name that is safe as a folder, a partition key and a SQL literal; anything else is refused."""
    if not NAME.fullmatch(name):
        raise FlywheelError(
            f"{what} {name!r} is not usable: write letters, digits, '-' and '_' only, at most 64, "
            "and begin with a letter or a digit"
        )
    return name


class Home(msgspec.Struct, frozen=True):
    """The data folder and the place of everything in it. Nothing is created until it is written."""

    root: Path

    @property
    def captures(self) -> Path:
        return self.root / "captures"

    @property
    def journals(self) -> Path:
        return self.root / "journals"

    @property
    def outcomes(self) -> Path:
        return self.root / "outcomes"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def workspaces(self) -> Path:
        return self.root / "workspaces"

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"

    @property
    def derived(self) -> Path:
        return self.root / "derived"

    @property
    def erasures(self) -> Path:
        return self.root / "erasures"

    @property
    def trees(self) -> Path:
        return self.root / "trees"

    @property
    def pairs(self) -> Path:
        return self.root / "pairs"

    @property
    def policies(self) -> Path:
        return self.root / "policies"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def suites(self) -> Path:
        return self.root / "suites"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def forthcoming(self) -> Path:
        return self.root / "forthcoming"

    @property
    def cycle(self) -> Path:
        return self.root / "cycle"

    @property
    def catalog(self) -> Path:
        return self.root / "flywheel.duckdb"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"


def home() -> Home:
    """The data folder that `FLYWHEEL_HOME` names; `data` in the current folder when it is unset."""
    return Home(Path(os.environ.get("FLYWHEEL_HOME") or "data").expanduser().resolve())


def ray_address() -> str | None:
    """The Ray cluster that `RAY_ADDRESS` names, by Ray's own convention."""
    return os.environ.get("RAY_ADDRESS") or None
