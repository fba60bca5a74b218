"""What changed between two versions of a corpus, row by row, and which ledger rows changed it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import duckdb
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus import erased
from flywheel.corpus.decisions import decisions
from flywheel.corpus.manifest import Manifest, manifest
from flywheel.outcomes.ledger import facts
from flywheel.settings import Home

Row = dict[str, Any]


def diff(home: Home, name: str, a: int | str | None, b: int | str | None) -> Row:
    """What version `b` has that `a` has not, the other way, and what both have with another verdict.

    Gives `rows`, one a trajectory whose membership or row changed: trajectory_id, `change` (`in`, `out` or
    `changed`), `why`, and reason, detail, split, reward, success and state on both sides (`before`, `after`), with
    `outcomes`, the ledger rows that count on one side alone (`counts`: `before` or `after`). `why` is `erased`
    (forgotten between the two), `arrived` (a new candidate), `late outcome` (the ledger rows differ), `wait ended` (a
    silence came to count), `reward policy`, or `recipe` (the filter, the split or what counts as a duplicate), else
    `other rows` (what it duplicates came or went). Also counts: `in`, `out`, `changed`, `same`, and `whys`.

    Raises:
        FlywheelError: when one of the versions is unknown.
    """
    before, after = manifest(home, name, a), manifest(home, name, b)
    with warehouse.connect() as connection:
        decided = [decisions(home, of) for of in (before, after)]
        connection.register("a", decided[0])
        connection.register("b", decided[1])
        same, rows = _changes(connection)
    gone = {id for of, all in zip((before, after), decided, strict=True) for id in _ids(erased.among(home, of, all))}
    ledger = _ledger(home, [before, after], rows)
    for row in rows:
        row["why"] = _why(row, before, after, gone)
        row["outcomes"] = [
            {"counts": side, **ledger[outcome]}
            for side, other in (("before", "after"), ("after", "before"))
            for outcome in sorted(_heard(row[side]) - _heard(row[other]))
            if outcome in ledger
        ]
        for side in (row["before"], row["after"]):
            if side is not None:
                del side["signals"]
    counts = Counter(row["change"] for row in rows)
    return {
        "name": name,
        "a": before.version,
        "b": after.version,
        "in": counts["in"],
        "out": counts["out"],
        "changed": counts["changed"],
        "same": same,
        "whys": dict(sorted(Counter(row["why"] for row in rows).items())),
        "rows": rows,
    }


def _ids(rows: pa.Table) -> list[str]:
    return rows["trajectory_id"].to_pylist()


def _changes(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[Row]]:
    side = (
        "CASE WHEN {0}.trajectory_id IS NOT NULL THEN struct_pack(kept := {0}.kept, reason := {0}.reason, "
        "detail := {0}.detail, split := {0}.split, reward := {0}.reward, success := {0}.success, state := {0}.state, "
        "signals := {0}.signals) END"
    )
    joined = f"""
        SELECT trajectory_id, coalesce(a.kept, false) AS was, coalesce(b.kept, false) AS is_in,
            a.row_digest IS NOT DISTINCT FROM b.row_digest AS equal, {side.format("a")} AS before,
            {side.format("b")} AS after
        FROM a FULL JOIN b USING (trajectory_id)
    """
    [(same,)] = connection.sql(f"SELECT count(*) FROM ({joined}) WHERE was AND is_in AND equal").fetchall()
    rows = connection.sql(
        f"""
        SELECT trajectory_id,
            CASE WHEN was AND is_in THEN 'changed' WHEN was THEN 'out' ELSE 'in' END AS change, before, after
        FROM ({joined}) WHERE (was OR is_in) AND NOT (was AND is_in AND equal) ORDER BY trajectory_id
        """
    )
    return same, rows.to_arrow_table().to_pylist()


def _why(row: Row, before: Manifest, after: Manifest, gone: set[str]) -> str:
    was, now = row["before"], row["after"]
    if was is None or now is None:
        return "erased" if row["trajectory_id"] in gone else "arrived"
    verdicts = [(side["state"], side["reward"], side["success"]) for side in (was, now)]
    if verdicts[0] != verdicts[1]:
        if before.recipe["reward_policy"] != after.recipe["reward_policy"]:
            return "reward policy"
        return "late outcome" if _heard(was) != _heard(now) else "wait ended"
    return "recipe" if before.recipe_hash != after.recipe_hash else "other rows"


def _heard(side: Row | None) -> set[str]:
    """The ledger rows that made a verdict; an assumed silence is none."""
    return {s["outcome_id"] for s in (side or {}).get("signals") or () if s["outcome_id"]}


def _ledger(home: Home, manifests: list[Manifest], rows: list[Row]) -> dict[str, Row]:
    """The ledger rows that any side of the changes counts, by id."""
    wanted = sorted({outcome for row in rows for side in ("before", "after") for outcome in _heard(row[side])})
    known: dict[str, Row] = {}
    for workspace in {of.recipe["workspace"] for of in manifests} if wanted else ():
        with warehouse.connect() as connection:
            connection.register("ledger", facts(home, workspace))
            found = connection.sql(
                "SELECT id, signal, value, source, observed_at, arrived_at FROM ledger WHERE id IN $wanted",
                params={"wanted": wanted},
            )
            known |= {row["id"]: row for row in found.to_arrow_table().to_pylist()}
    return known
