"""Rebuilding: a version decided again from the raw captures must be the version that stands."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.corpus import decisions, erased
from flywheel.corpus.manifest import Manifest, folder, locked, manifest, manifest_path
from flywheel.corpus.verify import inputs_wrong, unreadable
from flywheel.curate import cluster, prepared, upkeep
from flywheel.curate.decide import decide
from flywheel.curate.derived import Engine
from flywheel.curate.spec import RECIPE_VERSION, Spec
from flywheel.schema import FlywheelError
from flywheel.settings import Home

Row = dict[str, Any]

# Reasons that hang on other rows.
SHARED = ["exact duplicate", "prefix duplicate", "same effects", "near duplicate", "capped"]


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild found: the digest that stands (`expected`), the one the captures give now, and the differences.

    `restored` names what was missing or damaged and has been written anew: `content`, `decisions`, or both.
    `causes` says what is not as it was when the version was made: files of captures or outcomes, or the rules.
    `differences` has one entry for each kept row that is not the same: trajectory_id, `change` (`gained`, `lost` or
    `changed`), on both sides (`before`, `now`) the reason, its detail, and the reward, and `why`: the row was `erased`
    since, or what it repeats was, or shares a cap with (`other rows erased`); None where no erasure accounts for it.
    `explained` where erasures account for all of them: the version stands, and cannot be whole again.
    """

    name: str
    version: int
    expected: str
    digest: str
    same: bool
    restored: tuple[str, ...]
    causes: tuple[str, ...]
    differences: list[Row]

    @property
    def explained(self) -> bool:
        """Whether it is the same, or would be had nothing been erased."""
        return self.same or all(row["why"] for row in self.differences)


class _Beside(Home, frozen=True, kw_only=True):
    """A folder for what is computed anew, of the captures and outcomes of another."""

    of: Home

    @property
    def captures(self) -> Path:
        return self.of.captures

    @property
    def outcomes(self) -> Path:
        return self.of.outcomes


def rebuild(
    home: Home, name: str, ref: int | str | None = None, *, raw: bool = False, engine: Engine = "local"
) -> Rebuilt:
    """Decide a version again, and compare. What stands is never changed, only restored.

    `raw` computes from the captures alone all that decisions lean on (texts, fingerprints), beside what is there; else
    what was computed once is taken as it is. A version that other rules made is decided by those of this release.
    `engine` says where that is computed; the rows are the same.

    Raises:
        FlywheelError: when there is no such version.
    """
    of = manifest(home, name, ref)
    spec = msgspec.convert({k: v for k, v in of.recipe.items() if k != "recipe_version"}, Spec)
    with locked(home, name):
        content = _restore_content(home, of)
        if raw:
            with artifacts.scratch(home.root) as scratch:
                beside = _Beside(scratch, home.store and home.store / scratch.name, of=home)
                try:
                    decided = _decided(beside, spec, of.as_of, engine)
                finally:
                    artifacts.remove(beside.data)
        else:
            decided = _decided(home, spec, of.as_of, engine)
        return _compare(home, of, decided, content)


def _decided(home: Home, spec: Spec, as_of: datetime, engine: Engine) -> pa.Table:
    if engine == "ray":
        cluster.prepare(home, spec)
    return decide(home, spec, as_of)


def restored(home: Home, of: Manifest, decided: pa.Table) -> Manifest:
    """The version as it stands, with its decisions restored where they are missing. The caller holds the corpus.

    One of which rows were erased since stands as it is, though it cannot be made again.

    Raises:
        FlywheelError: when `decided` gives other rows.
    """
    result = _compare(home, of, decided, ())
    if not result.explained:
        shown = ", ".join(f"{row['trajectory_id']} {row['change']}" for row in result.differences[:5])
        raise FlywheelError(
            f"{of.ref} cannot be made again: {len(result.differences)} rows differ ({shown}); "
            f"{'; '.join(result.causes) or 'captures or outcomes from before its as-of time were added'}. "
            f"See: flywheel corpus rebuild {of.ref}"
        )
    return manifest(home, of.name, of.version)


def _compare(home: Home, of: Manifest, decided: pa.Table, done: tuple[str, ...]) -> Rebuilt:
    digest = decisions.rows_digest(decided.filter(decided["kept"])["row_digest"])
    same = digest == of.digest
    return Rebuilt(
        name=of.name,
        version=of.version,
        expected=of.digest,
        digest=digest,
        same=same,
        restored=(*done, *_restore_decisions(home, of, decided)) if same else done,
        causes=() if same else _causes(home, of),
        differences=[] if same else _differences(home, of, decided),
    )


def _restore_content(home: Home, of: Manifest) -> tuple[str, ...]:
    """Compute anew from the captures what cannot be read of the content."""
    workspace = of.recipe["workspace"]
    if not unreadable(home, workspace):
        return ()
    upkeep.remake(home, workspace, prepared.ROWS)
    return ("content",)


def _restore_decisions(home: Home, of: Manifest, decided: pa.Table) -> tuple[str, ...]:
    """Write all decisions anew where the stored ones are not those of the manifest, and these are."""
    try:
        whole = decisions.digest(decisions.decisions(home, of)) == of.decisions_digest
    except FlywheelError:
        whole = False
    if whole or decisions.digest(decided) != of.decisions_digest:
        return ()
    # A file that holds them all needs no other; versions that lean on it find in it what they found before.
    path = next((path for path in of.decision_files if Path(path).stem.split("-")[0] == f"v{of.version}"), None)
    path = path or f"decisions/v{of.version}.parquet"
    artifacts.write_parquet(folder(home, of.name) / path, decided)
    artifacts.write_json(manifest_path(home, of.name, of.version), msgspec.structs.replace(of, decision_files=(path,)))
    return ("decisions",)


def _causes(home: Home, of: Manifest) -> tuple[str, ...]:
    causes = [*map(str, erased.notes(home, of)), *inputs_wrong(home, of)]
    if of.recipe.get("recipe_version") != RECIPE_VERSION:
        causes.append(
            f"rules of version {of.recipe.get('recipe_version')} made it, and these are version {RECIPE_VERSION}"
        )
    return tuple(causes)


def _differences(home: Home, of: Manifest, decided: pa.Table) -> list[Row]:
    side = "CASE WHEN {0}.trajectory_id IS NOT NULL THEN struct_pack(reason := {0}.reason, detail := {0}.detail, "
    side += "reward := {0}.reward) END"
    before = decisions.decisions(home, of)
    gone = erased.among(home, of, before)
    with warehouse.connect() as connection:
        connection.register("now", decided)
        connection.register("before", before)
        connection.register("gone", gone)
        return (
            connection.sql(
                f"""
                SELECT trajectory_id,
                    CASE WHEN NOT coalesce(b.kept, false) THEN 'gained' WHEN NOT coalesce(n.kept, false) THEN 'lost'
                        ELSE 'changed' END AS change,
                    {side.format("b")} AS before, {side.format("n")} AS now,
                    CASE WHEN g.erasure IS NOT NULL THEN 'erased'
                        WHEN (b.reason IN $shared OR n.reason IN $shared) AND $some THEN 'other rows erased' END AS why
                FROM before AS b FULL JOIN now AS n USING (trajectory_id) LEFT JOIN gone AS g USING (trajectory_id)
                WHERE (b.kept OR n.kept)
                    AND (b.kept IS DISTINCT FROM n.kept OR b.row_digest IS DISTINCT FROM n.row_digest)
                ORDER BY trajectory_id
                """,
                params={"shared": SHARED, "some": gone.num_rows > 0},
            )
            .to_arrow_table()
            .to_pylist()
        )
