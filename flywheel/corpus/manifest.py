"""The manifest of a version: what it was asked for, what it holds, and the digest that names its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.corpus.reference import MAIN, checked_ref
from flywheel.curate.spec import Spec, spec_of
from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name

# Raised when a manifest, or what it points to, is read in another way.
SCHEMA_VERSION = 2


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a corpus. The file is written last, so a version exists once its manifest does.

    `digest` is SHA-256 over the sorted digests of the rows; `decisions_digest` covers every candidate's decision.
    `reasons` counts candidates by reason and sums to `candidates`; `splits` counts rows by split and sums to
    `rows`. `recipe` is the spec as plain values. `inputs` gives the digest of each file of captures and outcomes
    that was read, by its path in the data folder. `parents` are the versions that it came from: the one before it on
    its `branch` (or the one where the branch began), and the one that was merged. `decision_files` hold the
    decisions: all of them in the first, and in each further one what it changes. `created_at` and `created_with`
    (package versions) say when and by what it was made, and have no part in any digest.
    """

    name: str
    version: int
    branch: str = MAIN
    digest: str
    decisions_digest: str
    as_of: datetime
    rows: int
    splits: dict[str, int]
    candidates: int
    reasons: dict[str, int]
    parents: tuple[int, ...]
    decision_files: tuple[str, ...]
    recipe: dict[str, Any]
    recipe_hash: str
    inputs: dict[str, str]
    schema_version: int
    created_at: datetime
    created_with: dict[str, str]

    @property
    def parent(self) -> int | None:
        """The version before it, with which it is compared."""
        return self.parents[0] if self.parents else None

    @property
    def spec(self) -> Spec:
        """What it was asked for."""
        return spec_of(self.recipe)

    @property
    def ref(self) -> str:
        """How it is named: `support@v3`."""
        return f"{self.name}@v{self.version}"


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A name that a person gave to one version. A tagged version is never reclaimed."""

    name: str
    version: int
    digest: str
    created_at: datetime


class _Schema(msgspec.Struct, frozen=True):
    schema_version: int = 0


def folder(home: Home, name: str) -> Path:
    """Where the versions of a corpus lie."""
    return home.corpora / checked_name(name, "corpus")


def manifest_path(home: Home, name: str, version: int) -> Path:
    """Where the manifest of a version lies."""
    return folder(home, name) / "versions" / f"v{version}.json"


def names(home: Home) -> list[str]:
    """The corpora that have a version, in order of name."""
    return sorted({path.parents[1].name for path in home.corpora.glob("*/versions/v*.json")})


def versions(home: Home, name: str, branch: str | None = None) -> list[int]:
    """The versions of a corpus, or of one branch of it, oldest first; empty where there is none."""
    known = sorted(int(path.stem[1:]) for path in folder(home, name).glob("versions/v*.json"))
    return known if branch is None else [v for v in known if load(home, name, v).branch == branch]


def branches(home: Home, name: str) -> dict[str, int]:
    """The newest version of each branch, `main` first, then by name."""
    heads = {load(home, name, version).branch: version for version in versions(home, name)}
    return dict(sorted(heads.items(), key=lambda item: (item[0] != MAIN, item[0])))


def tags(home: Home, name: str) -> list[Tag]:
    """The tags of a corpus, in order of name."""
    paths = sorted(folder(home, name).glob("tags/*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=Tag) for path in paths]


def tag(home: Home, name: str, label: str, ref: int | str | None, at: datetime, *, force: bool = False) -> Tag:
    """Name a version. A tag that is taken stays where it is, unless `force` moves it.

    Raises:
        FlywheelError: when there is no such version, or the name is that of a branch or of a tag of another one.
    """
    checked_ref(label, "tag")
    with locked(home, name):
        of = manifest(home, name, ref)
        if label in branches(home, name):
            raise FlywheelError(f"corpus {name!r} has a branch {label!r}; take another name for the tag")
        path = folder(home, name) / "tags" / f"{label}.json"
        if path.exists() and not force:
            there = msgspec.json.decode(path.read_bytes(), type=Tag)
            if there.version != of.version:
                raise FlywheelError(f"tag {label!r} is on {name}@v{there.version}; move it with --force")
            return there
        made = Tag(name=label, version=of.version, digest=of.digest, created_at=at)
        artifacts.write_json(path, made)
        return made


def untag(home: Home, name: str, label: str) -> None:
    """Take a tag away; the version stays.

    Raises:
        FlywheelError: when there is no such tag.
    """
    with locked(home, name):
        path = folder(home, name) / "tags" / f"{checked_ref(label, 'tag')}.json"
        if not path.exists():
            there = ", ".join(found.name for found in tags(home, name)) or "none"
            raise FlywheelError(f"corpus {name!r} has no tag {label!r} (there are: {there})")
        path.unlink()
        artifacts.fsync_folder(path.parent)


def load(home: Home, name: str, version: int) -> Manifest:
    """The manifest of a version that is there.

    Raises:
        FlywheelError: when another release wrote it in another form.
    """
    path = manifest_path(home, name, version)
    data = path.read_bytes()
    try:
        found = msgspec.json.decode(data, type=_Schema).schema_version
        if found == SCHEMA_VERSION:
            return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise FlywheelError(f"{path} is no manifest: {error}; bring it back from a backup, or remove it") from error
    which = "a newer" if found > SCHEMA_VERSION else "an older"
    raise FlywheelError(
        f"{name}@v{version} was made by {which} release (manifest schema {found}; this one reads {SCHEMA_VERSION}): "
        "read it with that release; other versions are not affected"
    )


def manifest(home: Home, name: str, ref: int | str | None = None) -> Manifest:
    """The manifest of a version: by number, by branch (its newest) or by tag; of the newest on `main` where None.

    Raises:
        FlywheelError: when there is no such version.
    """
    known = versions(home, name)
    if not known:
        there = ", ".join(names(home)) or "none"
        raise FlywheelError(
            f"there is no corpus {name!r} (there are: {there}); make one with: flywheel snapshot WORKSPACE --to {name}"
        )
    if isinstance(ref, int):
        if ref not in known:
            raise FlywheelError(f"corpus {name!r} has no v{ref}; it has {_listed(known)}")
        return load(home, name, ref)
    for version in reversed(known):
        # From the newest on, so that older ones, perhaps of another release, need not be read.
        found = load(home, name, version)
        if found.branch == (ref or MAIN):
            return found
    for found in tags(home, name):
        if found.name == ref:
            if found.version not in known:
                raise FlywheelError(f"tag {ref!r} names {name}@v{found.version}, which is gone; remove the tag")
            return load(home, name, found.version)
    there = ", ".join([*branches(home, name), *(found.name for found in tags(home, name))])
    raise FlywheelError(f"corpus {name!r} has no branch or tag {ref!r} (there are: {there}); versions are v1, v2, ...")


def _listed(known: list[int]) -> str:
    """Versions for a message: `v1 to v5`, or each where some are missing."""
    if known == list(range(known[0], known[-1] + 1)):
        return f"v{known[0]}" if len(known) == 1 else f"v{known[0]} to v{known[-1]}"
    return ", ".join(f"v{version}" for version in known)


@contextmanager
def locked(home: Home, name: str) -> Iterator[None]:
    """Hold a corpus for writing; another process that wants to write it waits. A killed holder lets go."""
    with artifacts.held(folder(home, name) / ".lock"):
        yield
