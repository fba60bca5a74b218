"""Rebuilding: a version decided again from the raw captures must be the version that stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import warehouse
from flywheel.corpus import store
from flywheel.corpus.content import content_digest, decisions_digest, kept_rows, write_decisions
from flywheel.corpus.manifest import Manifest, decisions_path, locked, manifest
from flywheel.curate.decide import decide
from flywheel.curate.spec import spec_of
from flywheel.schema import FlywheelError, trajectory_of
from flywheel.schema import content_digest as said_digest
from flywheel.settings import Home

Row = dict[str, Any]


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild found: the digest that stands (`expected`), the one the captures give now, and the differences.

    `restored` names what was missing or damaged and has been written anew: `rows`, `decisions`, or both. `differences`
    has one entry for each kept row that is not the same: trajectory_id, `change` (`gained`, `lost` or `changed`),
    and the reasons before and now.
    """

    name: str
    version: int
    expected: str
    digest: str
    same: bool
    restored: tuple[str, ...]
    differences: list[Row]


def rebuild(home: Home, name: str, version: int | None = None) -> Rebuilt:
    """Decide a version again from the captures, and compare. What stands is never changed, only restored.

    Raises:
        FlywheelError: when there is no such version, or this release has other rules than the one that made it.
    """
    of = manifest(home, name, version)
    spec = spec_of(of.recipe)
    with locked(home, name):
        decided = decide(home, spec, of.as_of)
        return _compare(home, of, decided)


def restored(home: Home, of: Manifest, decided: pa.Table) -> Manifest:
    """The version as it stands, with its data restored where it is missing or damaged. The caller holds the corpus.

    Raises:
        FlywheelError: when `decided` gives other rows.
    """
    result = _compare(home, of, decided)
    if not result.same:
        shown = ", ".join(f"{row['trajectory_id']} {row['change']}" for row in result.differences[:5])
        raise FlywheelError(
            f"{of.name}@v{of.version} cannot be made again: {len(result.differences)} rows differ ({shown}); "
            "captures or outcomes that had arrived by its as-of time were added or removed since. "
            f"See: flywheel corpus rebuild {of.name}@v{of.version}"
        )
    return of


def verify(home: Home, name: str, version: int | None = None) -> list[str]:
    """What is wrong with a version as it is stored, without its captures; nothing where it is whole.

    Every row is read, its content hashed again and compared with its decision; the digests are taken anew.
    """
    of = manifest(home, name, version)
    try:
        decided = _stored_decisions(home, of)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        return [f"the decisions cannot be read: {error}"]
    wrong = []
    if decisions_digest(decided) != of.decisions_digest:
        wrong.append("the decisions are not those of the manifest")
    try:
        rows = store.rows(home, of.name, of.version)
    except (FlywheelError, OSError, ValueError) as error:
        return [*wrong, f"the rows cannot be read: {error}"]
    if content_digest(rows["row_digest"]) != of.digest:
        wrong.append("the rows do not have the digest of the manifest")
    kept = decided.filter(decided["kept"])
    if rows["id"].to_pylist() != kept["trajectory_id"].to_pylist():
        wrong.append("the rows are not the candidates that were kept")
    for batch in rows.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            if said_digest(trajectory_of(row)) != row["content_digest"]:
                wrong.append(f"the content of row {row['id']} is not what was captured")
    return wrong


def _compare(home: Home, of: Manifest, decided: pa.Table) -> Rebuilt:
    digest = content_digest(decided.filter(decided["kept"])["row_digest"])
    same = digest == of.digest
    return Rebuilt(
        name=of.name,
        version=of.version,
        expected=of.digest,
        digest=digest,
        same=same,
        restored=_restore(home, of, decided) if same else (),
        differences=[] if same else _differences(home, of, decided),
    )


def _restore(home: Home, of: Manifest, decided: pa.Table) -> tuple[str, ...]:
    """Write anew what is missing or damaged, from decisions that give the version's digest."""
    done = []
    expected = kept_rows(home, of.recipe["workspace"], of.as_of, decided)
    try:
        whole = store.rows(home, of.name, of.version).equals(expected)
    except (FlywheelError, OSError, ValueError):
        whole = False
    if not whole:
        store.write(home, of, expected)
        done.append("rows")
    try:
        whole = decisions_digest(_stored_decisions(home, of)) == of.decisions_digest
    except (OSError, pa.ArrowInvalid, KeyError):
        whole = False
    if not whole and decisions_digest(decided) == of.decisions_digest:
        write_decisions(home, of, decided)
        done.append("decisions")
    return tuple(done)


def _stored_decisions(home: Home, of: Manifest) -> pa.Table:
    table = pq.read_table(decisions_path(home, of.name, of.version))
    return table.drop_columns(["corpus", "version"])


def _differences(home: Home, of: Manifest, decided: pa.Table) -> list[Row]:
    with warehouse.connect() as connection:
        connection.register("now", decided)
        connection.register("before", _stored_decisions(home, of))
        return (
            connection.sql(
                """
                SELECT trajectory_id,
                    CASE WHEN NOT coalesce(b.kept, false) THEN 'gained' WHEN NOT coalesce(n.kept, false) THEN 'lost'
                        ELSE 'changed' END AS change,
                    b.reason AS before, n.reason AS now
                FROM before AS b FULL JOIN now AS n USING (trajectory_id)
                WHERE (b.kept OR n.kept)
                    AND (b.kept IS DISTINCT FROM n.kept OR b.row_digest IS DISTINCT FROM n.row_digest)
                ORDER BY trajectory_id
                """
            )
            .to_arrow_table()
            .to_pylist()
        )
