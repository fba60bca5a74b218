"""The one place that reads environment variables: where the data folder is, and where things lie in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

import msgspec

from flywheel.schema import FlywheelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
STORE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*/?")


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
    # Where instead what all machines share lies, and what grows with the traffic: a place on an object store.
    store: Path | None = None

    @property
    def data(self) -> Path:
        return self.store or self.root

    @property
    def captures(self) -> Path:
        return self.data / "captures"

    @property
    def journals(self) -> Path:
        return self.root / "journals"

    @property
    def outcomes(self) -> Path:
        return self.data / "outcomes"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    @property
    def workspaces(self) -> Path:
        return self.data / "workspaces"

    @property
    def keys(self) -> Path:
        """Secrets of workspaces, each readable by its owner alone."""
        return self.root / "keys"

    @property
    def corpora(self) -> Path:
        return self.data / "corpora"

    @property
    def derived(self) -> Path:
        return self.data / "derived"

    @property
    def mapped(self) -> Path:
        """Where what is mapped into memory lies: on this machine."""
        return self.root / "derived"

    @property
    def erasures(self) -> Path:
        return self.data / "erasures"

    @property
    def audit(self) -> Path:
        return self.root / "audit"

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
    def intake(self) -> Path:
        """What tells outcomes apart that are told twice, and links them: keys, links, secrets of webhooks."""
        return self.root / "intake"

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
    """The data folder that `FLYWHEEL_HOME` names; `data` in the current folder when it is unset.

    `FLYWHEEL_STORE` may name an object store for what grows with the traffic (`store`).
    """
    return Home(Path(os.environ.get("FLYWHEEL_HOME") or "data").expanduser().resolve(), store())


def store() -> Path | None:
    """The place on an object store that `FLYWHEEL_STORE` names, as s3://BUCKET/PREFIX; None where it is unset.

    It is no `Path` of this machine's, but answers to what is asked of those here. Credentials, region and endpoint
    are read by the clients themselves, from the standard `AWS_` variables.

    Raises:
        FlywheelError: for another kind of address, or where the packages that it needs are not installed.
    """
    url = os.environ.get("FLYWHEEL_STORE")
    if not url:
        return None
    if not STORE.fullmatch(url):
        raise FlywheelError(f"FLYWHEEL_STORE is {url!r}; write it as s3://BUCKET/PREFIX, or leave it unset")
    try:
        import s3fs  # noqa: F401  # pyright: ignore[reportMissingImports]  # in the extra
        from upath import UPath
    except ImportError as error:
        raise FlywheelError(
            f"FLYWHEEL_STORE needs packages that are not installed ({error.name}); install them with: "
            "pip install 'flywheel[s3]'"
        ) from error
    # Others write there too: what a listing said is asked anew each time.
    return cast("Path", UPath(url.rstrip("/"), use_listings_cache=False))


def ray_address() -> str | None:
    """The Ray cluster that `RAY_ADDRESS` names, by Ray's own convention."""
    return os.environ.get("RAY_ADDRESS") or None


def token() -> str | None:
    """The token that `FLYWHEEL_TOKEN` holds, for workspaces that are guarded."""
    return (os.environ.get("FLYWHEEL_TOKEN") or "").strip() or None


def openai_key() -> str | None:
    """The key that `OPENAI_API_KEY` holds, for models that are asked by OpenAI's interface; local ones need none."""
    return os.environ.get("OPENAI_API_KEY") or None
