"""Snapshots: what had arrived as of a time, decided row by row and frozen as the next version of a corpus."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version as package_version

import msgspec

from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.corpus import decisions
from flywheel.corpus.gc import retired, sweep
from flywheel.corpus.manifest import (
    SCHEMA_VERSION,
    Manifest,
    branches,
    load,
    locked,
    manifest,
    manifest_path,
    tags,
    versions,
)
from flywheel.corpus.rebuild import restored
from flywheel.corpus.reference import MAIN, checked_ref
from flywheel.curate import cluster
from flywheel.curate.decide import decide
from flywheel.curate.derived import Engine
from flywheel.curate.spec import Spec
from flywheel.curate.update import Standing, update
from flywheel.outcomes.join import sql_moment
from flywheel.schema import FlywheelError, arrival_day
from flywheel.settings import Home


class Snapshot(Manifest, frozen=True, kw_only=True):
    """A version's manifest, and whether this call made the version or found it made."""

    created: bool


def snapshot(
    home: Home,
    name: str,
    spec: Spec,
    as_of: datetime,
    *,
    version: int | None = None,
    branch: str = MAIN,
    engine: Engine = "local",
) -> Snapshot:
    """The next version of a corpus on a branch, or the newest one where it already is what is asked for.

    `version` asks for one number: made where it is free, found where it was made of the same recipe and as-of
    time (its data is restored from the captures where it is damaged). Killed at any moment and called again, it
    ends in the same version with the same digest. Records that wait in journals are not seen: settle them first.
    `engine` says where what follows from captured content alone is computed; the version is the same.

    Raises:
        FlywheelError: for an unknown workspace or branch, a filter that cannot be read, a number that stands for
            something else, or a version that the captures no longer give.
    """
    workspaces.require(home, spec.workspace)
    sql_moment(as_of)  # refuses a moment without a time zone
    as_of = as_of.astimezone(UTC)
    if engine == "ray":
        cluster.prepare(home, spec)
    with locked(home, name):
        sweep(home, name)
        heads = branches(home, name)
        if branch != MAIN and branch not in heads:
            there = ", ".join(heads) or "none"
            raise FlywheelError(
                f"corpus {name!r} has no branch {branch!r} (there are: {there}); begin it with: "
                f"flywheel corpus branch {name} {branch}"
            )
        known = versions(home, name)
        if version in known:
            return _found(home, load(home, name, version), spec, as_of)
        parents = [v for v in known if load(home, name, v).branch == branch and (version is None or v < version)]
        if version is not None and version in retired(home, name):
            raise FlywheelError(f"{name}@v{version} was removed; its number is never given again")
        parent = load(home, name, parents[-1]) if parents else None
        number = version or next_number(home, name)
        inputs = read_by(home, spec.workspace, as_of)
        files = decided_files(home, name, number, spec, as_of, parent)
        asked = (spec.recipe_hash, as_of, files)
        if version is None and parent and asked == (parent.recipe_hash, parent.as_of, parent.decision_files):
            return _snapshot(parent, created=False)
        made = make(home, name, number, branch, spec, as_of, inputs, files, tuple(parents[-1:]))
        return _snapshot(made, created=True)


def branch(home: Home, name: str, new: str, spec: Spec | None = None, ref: int | str | None = None) -> Snapshot:
    """Begin a branch: its first version decides as of the same time as the version that it leaves, by another spec.

    Nothing of the captured content is copied: the branch is a selection of its own. Without a spec it begins with
    that of the version it leaves. A branch that was begun alike before is found.

    Raises:
        FlywheelError: when the name is taken, or there is no such version.
    """
    checked_ref(new, "branch")
    with locked(home, name):
        sweep(home, name)
        base = manifest(home, name, ref)
        spec = spec or base.spec
        if any(tag.name == new for tag in tags(home, name)):
            raise FlywheelError(f"corpus {name!r} has a tag {new!r}; take another name for the branch")
        if new in branches(home, name):
            first = load(home, name, versions(home, name, new)[0])
            if (first.recipe_hash, first.as_of, first.parents) == (spec.recipe_hash, base.as_of, (base.version,)):
                return _snapshot(first, created=False)
            raise FlywheelError(
                f"corpus {name!r} has a branch {new!r} already, from v{first.parent} on; go on with: "
                f"flywheel snapshot {spec.workspace} --to {name} --branch {new}"
            )
        number = next_number(home, name)
        inputs = read_by(home, spec.workspace, base.as_of)
        files = decided_files(home, name, number, spec, base.as_of, base)
        made = make(home, name, number, new, spec, base.as_of, inputs, files, (base.version,))
        return _snapshot(made, created=True)


def next_number(home: Home, name: str) -> int:
    """The number after all that were ever given. The caller holds the corpus."""
    return max([*versions(home, name), *retired(home, name)], default=0) + 1


def make(
    home: Home,
    name: str,
    version: int,
    branch: str,
    spec: Spec,
    as_of: datetime,
    inputs: dict[str, str],
    files: tuple[str, ...],
    parents: tuple[int, ...],
) -> Manifest:
    """Write the manifest of a version whose decisions are in `files`, and with it the version exists."""
    made = Manifest(
        name=name,
        version=version,
        branch=branch,
        **msgspec.structs.asdict(decisions.summary(home, name, files)),
        as_of=as_of,
        parents=parents,
        decision_files=files,
        recipe=spec.recipe(),
        recipe_hash=spec.recipe_hash,
        inputs=inputs,
        schema_version=SCHEMA_VERSION,
        created_at=datetime.now(UTC),
        created_with={package: package_version(package) for package in ("flywheel", "pylance", "duckdb", "pyarrow")},
    )
    try:
        artifacts.write_json(manifest_path(home, name, version), made, new=True)
    except FileExistsError as error:
        raise FlywheelError(
            f"another machine made {name}@v{version} in this moment; what is there stands: ask again for the next one"
        ) from error
    return made


def decided_files(
    home: Home, name: str, version: int, spec: Spec, as_of: datetime, parent: Manifest | None
) -> tuple[str, ...]:
    """Decide a version and write its decisions: those that change against its parent's, where it has one.

    By the parent's spec, only what can have changed since is decided. The caller holds the corpus.
    """
    if parent is None:
        return decisions.write(home, name, version, decide(home, spec, as_of))
    changes = update(home, spec, as_of, standing(home, parent))
    if changes is None:
        decided = decide(home, spec, as_of)
        changes = decisions.changed(home, parent, decided)
        if changes is None:
            return decisions.write(home, name, version, decided)
    return decisions.append(home, name, version, changes, parent)


def standing(home: Home, of: Manifest) -> Standing:
    """What a version decided, of what: for the next one to go on from."""
    return Standing(
        recipe_hash=of.recipe_hash,
        as_of=of.as_of,
        inputs=frozenset(of.inputs),
        decisions=decisions.relation(home, of),
    )


def _found(home: Home, found: Manifest, spec: Spec, as_of: datetime) -> Snapshot:
    if (found.recipe_hash, found.as_of) != (spec.recipe_hash, as_of):
        raise FlywheelError(
            f"{found.ref} is another snapshot (as of {found.as_of.isoformat()}, recipe {found.recipe_hash[:12]}); "
            f"versions never change: leave the number to flywheel, or take v{next_number(home, found.name)}"
        )
    return _snapshot(restored(home, found, decide(home, spec, as_of)), created=False)


def read_by(home: Home, workspace: str, as_of: datetime) -> dict[str, str]:
    """The digest of each file that may hold a row that had arrived; a file that is named by its content says it.

    Asked before anything is decided: a file that comes meanwhile is new to the next version, which looks at it again.
    """
    digests = {}
    for root in (home.captures, home.outcomes):
        for path in warehouse.files(root, workspace):
            if path.parent.name <= f"day={arrival_day(as_of).isoformat()}":
                digests[str(path.relative_to(home.data))] = warehouse.named_digest(path) or artifacts.file_digest(path)
    return digests


def _snapshot(of: Manifest, *, created: bool) -> Snapshot:
    return Snapshot(**{name: getattr(of, name) for name in msgspec.structs.asdict(of)}, created=created)
