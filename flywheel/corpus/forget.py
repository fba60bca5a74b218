"""Forgetting in the corpus: what was computed of erased rows goes to the last byte, and versions are made without."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.capture.erasing.erasure import Affected, Erasure
from flywheel.corpus import erased
from flywheel.corpus.defence import graduation
from flywheel.corpus.manifest import Manifest, folder, load, locked, names, versions
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.streaming import segments
from flywheel.curate import upkeep
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel.settings import Home


def purge(home: Home, record: Erasure) -> None:
    """Take what was erased out of everything that was computed of a workspace's captures, whatever computed it.

    Tables of Lance lose the rows of the files that gave way (they are computed anew of the files that took their
    places) and all their older states; segments the rows of contents that nobody captured still has. Whoever reads one
    at this moment must open it anew.
    """
    gone = {Path(old).name for old in record.replaced or {} if old.startswith(f"{home.captures.name}/")}
    for path in sorted((home.derived / record.workspace).glob("[!.]*.lance")):
        upkeep.purge(path, gone)
    digests = _orphaned(home, record)
    place = home.mapped / record.workspace
    for path in sorted({path.parent for path in place.glob(f"[!.]*/*{segments.SUFFIX}")}):
        segments.erase(path, digests)
    if place.exists():
        artifacts.sweep(place)


def renew(home: Home, record: Erasure) -> tuple[Affected, ...]:
    """Make a version without the erased rows for each branch whose newest had one; all versions that had, in order.

    It asks for the same as of the same time. Verdicts of the defence on versions that had one may quote it: they go,
    and are given anew when they are asked for.
    """
    return tuple(affected for name in names(home) for affected in _renewed(home, record, name))


def _renewed(home: Home, record: Erasure, name: str) -> list[Affected]:
    held: dict[int, tuple[Manifest, tuple[int, int, int]]] = {}
    heads: dict[str, int] = {}
    for of in _readable(home, name):
        heads[of.branch] = of.version
        if of.recipe["workspace"] == record.workspace and (found := erased.counted(home, of, [record])):
            [counts] = found.values()
            held[of.version] = (of, counts)
    for branch, version in heads.items():
        if version in held:
            head = held[version][0]
            heads[branch] = snapshot(home, name, head.spec, head.as_of, branch=branch).version
    for of, _ in held.values():
        _forget_verdict(home, of)
    return [
        Affected(
            ref=of.ref,
            candidates=candidates,
            rows=rows,
            trained=trained,
            successor=f"{name}@v{heads[of.branch]}" if heads[of.branch] not in held else None,
        )
        for of, (candidates, rows, trained) in held.values()
    ]


def _readable(home: Home, name: str) -> list[Manifest]:
    """The versions of a corpus, oldest first, but for those that only another release can read."""
    found = []
    for version in versions(home, name):
        with suppress(FlywheelError):
            found.append(load(home, name, version))
    return found


def _forget_verdict(home: Home, of: Manifest) -> None:
    with locked(home, of.name):
        path = graduation.place(home, of)
        path.unlink(missing_ok=True)
        path.with_suffix(".parquet").unlink(missing_ok=True)
        artifacts.sweep(folder(home, of.name))


def _orphaned(home: Home, record: Erasure) -> list[str]:
    """The contents of erased rows that no captured row has any more."""
    digests = pa.table({"content_digest": pa.array(record.content_digests, pa.string())})
    with warehouse.connect() as connection:
        connection.register("digests", digests)
        rows = connection.sql(
            "SELECT content_digest FROM digests ANTI JOIN "
            f"{warehouse.scan_sql(home.captures, TRAJECTORIES, record.workspace)} USING (content_digest) ORDER BY 1"
        )
        return rows.to_arrow_table()["content_digest"].to_pylist()
