"""Snapshots: what had arrived as of a time, decided row by row and frozen as the next version of a corpus."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version as package_version

import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.corpus import store
from flywheel.corpus.content import content_digest, decisions_digest, kept_rows, write_decisions
from flywheel.corpus.manifest import Manifest, locked, manifest, manifest_path, versions
from flywheel.corpus.rebuild import rebuild as rebuild
from flywheel.corpus.rebuild import restored
from flywheel.curate.decide import decide
from flywheel.curate.spec import Spec
from flywheel.outcomes.join import sql_moment
from flywheel.schema import FlywheelError, arrival_day
from flywheel.settings import Home


class Snapshot(Manifest, frozen=True, kw_only=True):
    """A version's manifest, and whether this call made the version or found it made."""

    created: bool


def snapshot(home: Home, name: str, spec: Spec, as_of: datetime, *, version: int | None = None) -> Snapshot:
    """The next version of a corpus, or the newest one where it already is what is asked for.

    `version` asks for one number: made where it is free, found where it was made of the same recipe and as-of
    time (its data is restored from the captures where it is damaged). Killed at any moment and called again, it
    ends in the same version with the same digest. Records that wait in journals are not seen: settle them first.

    Raises:
        FlywheelError: for an unknown workspace, a filter that cannot be read, a number that stands for something
            else, or a version that the captures no longer give.
    """
    workspaces.require(home, spec.workspace)
    sql_moment(as_of)  # refuses a moment without a time zone
    as_of = as_of.astimezone(UTC)
    with locked(home, name):
        known = versions(home, name)
        decided = decide(home, spec, as_of)
        if version in known:
            found = manifest(home, name, version)
            if (found.recipe_hash, found.as_of) != (spec.recipe_hash, as_of):
                raise FlywheelError(
                    f"{name}@v{version} is another snapshot (as of {found.as_of.isoformat()}, recipe "
                    f"{found.recipe_hash[:12]}); versions never change: "
                    f"leave the number to flywheel, or take v{known[-1] + 1}"
                )
            return _snapshot(restored(home, found, decided), created=False)
        if version is None and known:
            newest = manifest(home, name)
            asked = (spec.recipe_hash, as_of, decisions_digest(decided))
            if (newest.recipe_hash, newest.as_of, newest.decisions_digest) == asked:
                return _snapshot(newest, created=False)
        number = version or max(known, default=0) + 1
        earlier = [v for v in known if v < number]
        made = _manifest(home, name, number, spec, as_of, decided, max(earlier, default=None))
        store.clear(home, name)
        store.write(home, made, kept_rows(home, spec.workspace, as_of, decided))
        write_decisions(home, made, decided)
        artifacts.write_json(manifest_path(home, name, number), made)
        return _snapshot(made, created=True)


def _manifest(
    home: Home, name: str, version: int, spec: Spec, as_of: datetime, decided: pa.Table, parent: int | None
) -> Manifest:
    kept = decided.filter(decided["kept"])
    return Manifest(
        name=name,
        version=version,
        digest=content_digest(kept["row_digest"]),
        decisions_digest=decisions_digest(decided),
        as_of=as_of,
        rows=kept.num_rows,
        splits=_counts(kept["split"]),
        candidates=decided.num_rows,
        reasons=_counts(decided["reason"]),
        parent=parent,
        recipe=spec.recipe(),
        recipe_hash=spec.recipe_hash,
        inputs=_inputs(home, spec.workspace, as_of),
        schema_version=store.SCHEMA_VERSION,
        created_at=datetime.now(UTC),
        created_with={package: package_version(package) for package in ("flywheel", "pylance", "duckdb", "pyarrow")},
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = column.value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(counted, key=lambda pair: pair["values"])}


def _inputs(home: Home, workspace: str, as_of: datetime) -> dict[str, str]:
    """The digest of each file that may hold a row that had arrived."""
    digests = {}
    for root in (home.captures, home.outcomes):
        for path in warehouse.files(root, workspace):
            if path.parent.name <= f"day={arrival_day(as_of).isoformat()}":
                with path.open("rb") as file:
                    digests[str(path.relative_to(home.root))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _snapshot(of: Manifest, *, created: bool) -> Snapshot:
    return Snapshot(**{name: getattr(of, name) for name in msgspec.structs.asdict(of)}, created=created)
