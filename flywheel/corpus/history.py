"""The history of a corpus: its versions, and why each of them has a row or has it not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel import warehouse
from flywheel.capture.erasing.erasure import Tombstones, records
from flywheel.corpus import decisions
from flywheel.corpus.manifest import Manifest, load, manifest, names, versions
from flywheel.outcomes.ledger import facts
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel.settings import Home

Row = dict[str, Any]

CANDIDATE = (
    "id",
    "workspace",
    "task_id",
    "task_group",
    "task_type",
    "agent",
    "agent_version",
    "end_state",
    "arrived_at",
    "source",
    "source_line",
)


def log(home: Home, name: str, branch: str | None = None) -> list[Manifest]:
    """The manifests of a corpus, or of one branch of it, newest first.

    Raises:
        FlywheelError: when there is no such corpus or branch.
    """
    known = versions(home, name, branch)
    if not known:
        manifest(home, name, branch)  # says what there is
    return [load(home, name, version) for version in reversed(known)]


def why(
    home: Home,
    name: str | None,
    row_id: str,
    version: int | str | None = None,
    *,
    corpora: Sequence[str] | None = None,
) -> Row:
    """What each version decided on a candidate and why, back to its source line and its ledger rows.

    `row_id` is a trajectory's id or the beginning of one. Without a name all corpora are asked, or those given,
    without a version all versions. Gives the columns of `CANDIDATE` (`id` as trajectory_id), `decisions` (one a
    version: corpus, version, as_of, kept, split, reason, detail, reward, success, state, signals), and `outcomes`:
    every fact of the ledger about it that had arrived by the last of those versions, each with `counted_in`, the
    versions whose reward it made. Of a trajectory that was erased since, `erased` names the erasure, and nothing
    else than decisions is known.

    Raises:
        FlywheelError: when no version knows the id, or its beginning is that of several.
    """
    asked = [
        manifest(home, corpus, number)
        for corpus in ([name] if name else names(home) if corpora is None else corpora)
        for number in ([version] if version else versions(home, corpus) or [None])
    ]
    found: list[Row] = []
    for of in asked:
        about = {"corpus": of.name, "version": of.version, "branch": of.branch}
        table = decisions.where(home, of, "starts_with(trajectory_id, $prefix)", prefix=row_id)
        found += [about | row | {"as_of": of.as_of} for row in table.to_pylist()]
    ids = sorted({row["trajectory_id"] for row in found})
    if row_id in ids:
        ids = [row_id]
    if len(ids) != 1:
        where = f"{name}@{version}" if version else name or "any corpus"
        raise FlywheelError(
            f"{row_id!r} begins the ids of {len(ids)} candidates ({', '.join(ids[:3])}, ...); write more of it"
            if ids
            else f"no candidate of {where} has an id that begins with {row_id!r}; "
            'list them with: flywheel query "SELECT trajectory_id FROM decisions"'
        )
    found = [row for row in found if row["trajectory_id"] == ids[0]]
    workspace = next(of.recipe["workspace"] for of in asked if of.name == found[-1]["corpus"])
    last = max(row["as_of"] for row in found)
    heard = [(f"{row['corpus']}@v{row['version']}", {s["outcome_id"] for s in row["signals"]}) for row in found]
    return {
        **_captured(home, workspace, ids[0]),
        "erased": Tombstones(records(home, workspace)).by(ids[0]),
        "decisions": [
            {k: row[k] for k in row if k not in ("trajectory_id", "content_digest", "row_digest")} for row in found
        ],
        "outcomes": [
            {k: fact[k] for k in fact if k not in ("workspace", "trajectory_id")}
            | {"counted_in": [version for version, ids in heard if fact["id"] in ids]}
            for fact in facts(home, workspace, as_of=last, trajectory_id=ids[0]).to_pylist()
        ],
    }


def _captured(home: Home, workspace: str, trajectory_id: str) -> Row:
    with warehouse.connect() as connection:
        rows = (
            connection.sql(
                f"""
                SELECT {", ".join(CANDIDATE)} FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)}
                WHERE id = $id ORDER BY arrived_at, content_digest, source, source_line LIMIT 1
                """,
                params={"id": trajectory_id},
            )
            .to_arrow_table()
            .to_pylist()
        )
    row = rows[0] if rows else {"id": trajectory_id}
    return {"trajectory_id": row.pop("id"), **row}
