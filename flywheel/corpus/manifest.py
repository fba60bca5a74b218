"""The manifest of a version: what it was asked for, what it holds, and the digest that names its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import msgspec

from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a corpus. The file is written last, so a version exists once its manifest does.

    `digest` is SHA-256 over the sorted digests of the rows; `decisions_digest` covers every candidate's decision.
    `reasons` counts candidates by reason and sums to `candidates`; `splits` counts rows by split and sums to
    `rows`. `recipe` is the spec as plain values. `inputs` gives the SHA-256 of each file of captures and outcomes
    that was read, by its path in the data folder. `parent` is the version before it. `created_at` and
    `created_with` (package versions) say when and by what it was made, and have no part in any digest.
    """

    name: str
    version: int
    digest: str
    decisions_digest: str
    as_of: datetime
    rows: int
    splits: dict[str, int]
    candidates: int
    reasons: dict[str, int]
    parent: int | None
    recipe: dict[str, Any]
    recipe_hash: str
    inputs: dict[str, str]
    schema_version: int
    created_at: datetime
    created_with: dict[str, str]


def manifest_path(home: Home, name: str, version: int) -> Path:
    """Where the manifest of a version lies."""
    return home.corpora / name / "versions" / f"v{version}.json"


def decisions_path(home: Home, name: str, version: int) -> Path:
    """Where the decisions of a version lie."""
    return home.corpora / name / "decisions" / f"v{version}.parquet"


def names(home: Home) -> list[str]:
    """The corpora that have a version, in order of name."""
    return sorted({path.parents[1].name for path in home.corpora.glob("*/versions/v*.json")})


def versions(home: Home, name: str) -> list[int]:
    """The versions of a corpus, oldest first; empty where there is none."""
    found = (home.corpora / checked_name(name, "corpus")).glob("versions/v*.json")
    return sorted(int(path.stem[1:]) for path in found)


def manifest(home: Home, name: str, version: int | None = None) -> Manifest:
    """The manifest of a version; of the newest where none is named.

    Raises:
        FlywheelError: when there is no such version.
    """
    known = versions(home, name)
    if not known:
        there = ", ".join(names(home)) or "none"
        raise FlywheelError(
            f"there is no corpus {name!r} (there are: {there}); make one with: flywheel snapshot WORKSPACE --to {name}"
        )
    if version is None:
        version = known[-1]
    if version not in known:
        raise FlywheelError(f"corpus {name!r} has no v{version}; it has v{known[0]} to v{known[-1]}")
    return msgspec.json.decode(manifest_path(home, name, version).read_bytes(), type=Manifest)


@contextmanager
def locked(home: Home, name: str) -> Iterator[None]:
    """Hold a corpus for writing; another process that wants to write it waits. A killed holder lets go."""
    folder = home.corpora / checked_name(name, "corpus")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        flock(file, LOCK_EX)
        yield
