"""Reclaiming space: branches that were given up, what dead writers left, and what no version needs any more."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import msgspec

from flywheel import artifacts
from flywheel.corpus.manifest import folder, load, locked, manifest_path, names, tags, versions
from flywheel.corpus.reference import MAIN
from flywheel.curate import prepared, upkeep
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """What stays known of a version that was removed: its number is never given again."""

    branch: str
    digest: str


class Reclaimed(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed (or would be), as paths in the data folder, and the bytes that this frees."""

    removed: tuple[str, ...]
    bytes: int


def retired(home: Home, name: str) -> dict[int, Retired]:
    """The versions of a corpus that were removed."""
    path = folder(home, name) / "retired.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[int, Retired]) if path.exists() else {}


def remove_branch(home: Home, name: str, branch: str, *, force: bool = False) -> list[int]:
    """Give up a branch: its versions are gone, and `collect` frees what they alone used. Returns their numbers.

    Raises:
        FlywheelError: for `main`, an unknown branch, or where a tag holds a version of it, or a policy was trained on
            one and `force` is not given.
    """
    if branch == MAIN:
        raise FlywheelError("the branch main stays; remove others")
    with locked(home, name):
        sweep(home, name)
        gone = versions(home, name, branch)
        if not gone:
            raise FlywheelError(f"corpus {name!r} has no branch {branch!r}")
        if held := [f"{tag.name} (v{tag.version})" for tag in tags(home, name) if tag.version in gone]:
            raise FlywheelError(f"tags hold versions of branch {branch!r}: {', '.join(held)}; remove them first")
        if not force and (trained := _trained_on(home, name, gone)):
            raise FlywheelError(
                f"policies were trained on branch {branch!r}: {', '.join(trained)}; --force removes it nevertheless"
            )
        manifests = [load(home, name, version) for version in gone]
        marked = {of.version: Retired(branch=branch, digest=of.digest) for of in manifests}
        # Marked first: a crash in between is brought to its end by the next writer.
        known = {str(version): of for version, of in (retired(home, name) | marked).items()}
        artifacts.write_json(folder(home, name) / "retired.json", known)
        sweep(home, name)
        return gone


def sweep(home: Home, name: str) -> None:
    """Clear what interrupted writes have left. The caller holds the corpus."""
    artifacts.sweep(folder(home, name))
    for version in retired(home, name).keys() & set(versions(home, name)):
        manifest_path(home, name, version).unlink()


def collect(
    home: Home, corpora: Iterable[str] | None = None, *, older_than: timedelta, dry_run: bool = False
) -> Reclaimed:
    """Remove what no version needs: decisions that none reads, and old states of the tables of content.

    Whoever began to read a derived table up to `older_than` ago goes on undisturbed.
    """
    removed: list[Path] = []
    asked = names(home) if corpora is None else list(corpora)
    size = 0
    for name in asked:
        with locked(home, name):
            if not dry_run:
                sweep(home, name)
            used = {path for version in versions(home, name) for path in load(home, name, version).decision_files}
            for path in sorted(folder(home, name).glob("decisions/v*.parquet")):
                if str(path.relative_to(folder(home, name))) not in used:
                    removed.append(path)
                    size += path.stat().st_size
                    if not dry_run:
                        path.unlink()
    if not dry_run:
        artifacts.sweep(home.root)
        size += _compact(home, older_than)
    return Reclaimed(removed=tuple(str(path.relative_to(home.data)) for path in removed), bytes=size)


def _compact(home: Home, older_than: timedelta) -> int:
    """Merge small fragments and drop old states of the tables that versions read."""
    manifests = [load(home, name, version) for name in names(home) for version in versions(home, name)]
    workspaces = sorted({of.recipe["workspace"] for of in manifests})
    return sum(upkeep.compact(home, workspace, prepared.ROWS, older_than) for workspace in workspaces)


def _trained_on(home: Home, name: str, gone: list[int]) -> list[str]:
    """The policies whose lineage names one of the versions."""
    found = []
    for path in sorted(home.policies.glob("*/lineage.json")):
        data = artifacts.read_json(path).get("data", {})
        if data.get("corpus") == name and data.get("version") in gone:
            found.append(path.parent.name)
    return found
