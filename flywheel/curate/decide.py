"""The decision on each candidate: kept or not, on which side of the split, and why."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate import filter as filters
from flywheel.curate.caps import capped
from flywheel.curate.dedupe import duplicates
from flywheel.curate.part import Part
from flywheel.curate.spec import Spec
from flywheel.curate.split import split_of
from flywheel.outcomes.join import HEARD, joined
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

DECISIONS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("content_digest", pa.string()),
        ("kept", pa.bool_()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("similarity", pa.float64()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("state", pa.string()),
        ("signals", pa.list_(HEARD)),
        ("row_digest", pa.string()),
        ("decision_digest", pa.string()),
    ]
)

# In the order in which they are asked: the first that holds is the reason.
REASONS = (
    "pending",
    "conflicting",
    "unlabelled",
    "filtered",
    "exact duplicate",
    "prefix duplicate",
    "same effects",
    "near duplicate",
    "capped",
    "held out",
    "kept",
)

# 128 bits over all that a decision says, equal on every machine; for a table or subquery `d` of the other columns.
DIGEST = "left(sha256(to_json(d)::VARCHAR), 32)"


def decide(home: Home, spec: Spec, as_of: datetime, *, only: Part | None = None) -> pa.Table:
    """One row of `DECISIONS` for each trajectory that had arrived by `as_of`, ordered by trajectory_id.

    The reasons are those of `REASONS`. A row without a verdict is dropped first: `pending` (detail: until
    when), `conflicting` (the signals), `unlabelled` (the signals that stayed silent). The filter then drops
    training rows, and duplicates are looked for among what is left of both sides (`dedupe.duplicates`): of equals the
    held-out one stays, then the one with more reward, the more complete (by its end, then its steps), the one that
    arrived first, the lesser id; the detail names the one that stood against it. Then come the caps. `held out` rows
    are kept, for evaluation, and never trained on.

    `row_digest` is SHA-256 over id, content, reward, success and split; `decision_digest` covers the whole decision.

    `only` decides some rows alone, as if there were no others.

    What follows from a captured row's content alone is computed once, and found again by every later call.

    Raises:
        FlywheelError: when the filter is no condition on the columns of `filter.COLUMNS`.
    """
    with warehouse.connect() as connection:
        rows = only.rows if only else prepared.bring(home, spec.workspace)
        columns = [*prepared.LIGHT, "chain"] if spec.prefix_duplicates else list(prepared.LIGHT)
        if only:
            captured = only.light(as_of, columns)
            verdicts = only.joined(home, spec, as_of, captured)
        else:
            captured = prepared.light(rows, as_of, columns)
            verdicts = joined(home, spec.workspace, spec.reward_policy, as_of, candidates=captured)
        connection.register("captured", captured)
        connection.register("verdicts", verdicts)
        connection.sql(
            "CREATE TABLE candidates AS SELECT c.* EXCLUDE (id), v.* "
            "FROM captured AS c JOIN verdicts AS v ON v.trajectory_id = c.id"
        )
        _split(connection, spec)
        candidates = connection.sql(f"SELECT {', '.join(filters.COLUMNS)} FROM candidates").to_arrow_table()
        connection.register("filtered", filters.passes(candidates, spec.filter))
        _rank(connection)
        _duplicates(connection, home, rows, spec, only)
        _capped(connection, spec)
        return _decisions(connection, spec).cast(DECISIONS)


def _split(connection: duckdb.DuckDBPyConnection, spec: Spec) -> None:
    """Table `splits`: the side of each task group."""
    groups = [g for (g,) in connection.execute("SELECT DISTINCT task_group FROM candidates").fetchall()]
    sides = [split_of(group, spec.holdout_percent, spec.holdout_salt) for group in groups]
    connection.register(
        "splits", pa.table({"task_group": pa.array(groups, pa.string()), "split": pa.array(sides, pa.string())})
    )


def _rank(connection: duckdb.DuckDBPyConnection) -> None:
    """Table `ranked`: the rows among which duplicates are looked for, the best of them with the least rank.

    `heldout` sorts before `train`: what is held out is never given up for a row that would give it away.
    """
    connection.sql(
        """
        CREATE TABLE ranked AS
        SELECT c.*, split, row_number() OVER (
            ORDER BY split, reward DESC, list_position(['completed', 'partial', 'failed'], end_state), n_steps DESC,
            arrived_at, trajectory_id) AS rank
        FROM candidates AS c JOIN splits USING (task_group) JOIN filtered USING (trajectory_id)
        WHERE state = 'resolved' AND (passes OR split = 'heldout')
        """
    )


def _duplicates(
    connection: duckdb.DuckDBPyConnection, home: Home, rows: LanceDataset, spec: Spec, only: Part | None
) -> None:
    """Table `duplicates`: what repeats another of the ranked rows."""
    near = spec.near_duplicates
    columns = "r.trajectory_id, r.content_digest, r.task_id, r.effects, r.rank"
    columns += ", r.chain" if spec.prefix_duplicates else ""
    source = "ranked AS r"
    if near is not None:
        wanted = ["id", "content_digest", "buckets", "n_runs"]
        if only:
            connection.register("prints", only.fingerprints(wanted))
        else:
            prints = derived.bring(home, spec.workspace, fingerprint.derivation(near))
            with derived.reading(prints.uri):
                connection.register("prints", prints.to_table(columns=wanted))
        columns += ", p.buckets, p.n_runs"
        # What was captured twice has its fingerprint twice.
        source += """ JOIN (
            SELECT id AS trajectory_id, content_digest, any_value(buckets) AS buckets, any_value(n_runs) AS n_runs
            FROM prints SEMI JOIN ranked ON ranked.trajectory_id = prints.id GROUP BY ALL
        ) AS p USING (trajectory_id, content_digest)"""
    ranked = connection.sql(f"SELECT {columns} FROM {source} ORDER BY rank").to_arrow_table()

    def runs(keys: pa.Table) -> pa.ChunkedArray:
        assert near is not None
        read = only.batches(keys, ["steps"]) if only else prepared.batches(rows, keys, ["steps"])
        return pa.chunked_array([fingerprint.runs(batch["steps"], near) for batch in read], pa.list_(pa.uint64()))

    connection.register("duplicates", duplicates(ranked, runs, spec))


def _capped(connection: duckdb.DuckDBPyConnection, spec: Spec) -> None:
    """Table `capped`: what is left of the ranked rows, and is more than the caps allow."""
    left = "SELECT * FROM ranked ANTI JOIN duplicates USING (trajectory_id)"
    columns = "trajectory_id, task_id, source, agent, agent_version, split, rank"
    connection.register("capped", capped(connection.sql(f"SELECT {columns} FROM ({left})").to_arrow_table(), spec.caps))


def _decisions(connection: duckdb.DuckDBPyConnection, spec: Spec) -> pa.Table:
    signals = spec.reward_policy.signals
    awaited = [s.name for s in signals if s.required and s.silence is None] or [s.name for s in signals]
    return connection.sql(
        f"""
        WITH reasoned AS (
            SELECT c.*, s.split, n.duplicate_of, n.similarity, o.detail AS over_cap,
                CASE WHEN c.state = 'pending' THEN 'pending'
                    WHEN c.state = 'conflicting' THEN 'conflicting'
                    WHEN c.state = 'expired' THEN 'unlabelled'
                    WHEN r.rank IS NULL THEN 'filtered'
                    WHEN n.reason IS NOT NULL THEN n.reason
                    WHEN o.detail IS NOT NULL THEN 'capped'
                    WHEN s.split = 'heldout' THEN 'held out'
                    ELSE 'kept' END AS reason,
                list_transform(c.signals, lambda heard: heard.signal) AS names
            FROM candidates AS c JOIN splits AS s USING (task_group)
            LEFT JOIN ranked AS r USING (trajectory_id) LEFT JOIN duplicates AS n USING (trajectory_id)
            LEFT JOIN capped AS o USING (trajectory_id)
        ),
        decided AS (
            SELECT trajectory_id, content_digest, reason IN ('kept', 'held out') AS kept, split, reason,
                CASE reason
                    WHEN 'pending' THEN strftime(matures_at, '%Y-%m-%dT%H:%M:%SZ')
                    WHEN 'conflicting' THEN array_to_string(list_sort(list_distinct(list_transform(list_filter(
                        signals, lambda heard: heard.role = 'conflict'), lambda heard: heard.signal))), ', ')
                    WHEN 'unlabelled' THEN
                        array_to_string(list_filter($awaited, lambda name: NOT list_contains(names, name)), ', ')
                    WHEN 'capped' THEN over_cap
                    ELSE duplicate_of END AS detail,
                similarity, reward, success, state, signals,
                sha256(concat_ws('|', content_digest, coalesce(printf('%.17g', reward), '-'),
                    coalesce(success::VARCHAR, '-'), split, trajectory_id)) AS row_digest
            FROM reasoned
        )
        SELECT d.*, {DIGEST} AS decision_digest FROM decided AS d ORDER BY trajectory_id
        """,
        params={"awaited": awaited},
    ).to_arrow_table()
