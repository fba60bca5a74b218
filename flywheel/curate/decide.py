"""The decision on each candidate: kept or not, on which side of the split, and why."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import filter as filters
from flywheel.curate import prepared
from flywheel.curate.dedupe import near_duplicates
from flywheel.curate.fingerprint import texts
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
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("state", pa.string()),
        ("signals", pa.list_(HEARD)),
        ("row_digest", pa.string()),
    ]
)

# In the order in which they are asked: the first that holds is the reason.
REASONS = (
    "pending",
    "conflicting",
    "unlabelled",
    "filtered",
    "exact duplicate",
    "near duplicate",
    "held out",
    "kept",
)


def decide(home: Home, spec: Spec, as_of: datetime) -> pa.Table:
    """One row of `DECISIONS` for each trajectory that had arrived by `as_of`, ordered by trajectory_id.

    The reasons are those of `REASONS`. A row without a verdict is dropped first: `pending` (detail: until
    when), `conflicting` (the signals), `unlabelled` (the signals that stayed silent). The filter then drops
    training rows, and duplicates are looked for among what is left of both sides: of equals the held-out one
    stays, then the one with more reward, the more complete, the one that arrived first, the lesser id; the
    detail names it. `held out` rows are kept, for evaluation, and never trained on.

    `row_digest` is SHA-256 over id, content, reward, success and split: equal on every machine.

    What follows from a captured row's content alone is computed once and found again by every later call; what is
    decided here is decided for all candidates together, so a version that is made from another by a few late outcomes
    equals one that is made from nothing.

    Raises:
        FlywheelError: when the filter is no condition on the columns of `filter.COLUMNS`.
    """
    with warehouse.connect() as connection:
        rows = prepared.bring(home, spec.workspace)
        connection.register("captured", prepared.light(rows, as_of))
        connection.register("verdicts", joined(home, spec.workspace, spec.reward_policy, as_of))
        connection.sql(
            "CREATE TABLE candidates AS SELECT c.* EXCLUDE (id), v.* "
            "FROM captured AS c JOIN verdicts AS v ON v.trajectory_id = c.id"
        )
        _split(connection, spec)
        candidates = connection.sql(f"SELECT {', '.join(filters.COLUMNS)} FROM candidates").to_arrow_table()
        connection.register("filtered", filters.passes(candidates, spec.filter))
        _rank(connection)
        _near(connection, rows, spec)
        return _decisions(connection, spec).cast(DECISIONS)


def _split(connection: duckdb.DuckDBPyConnection, spec: Spec) -> None:
    """Table `splits`: the side of each task group."""
    groups = [g for (g,) in connection.execute("SELECT DISTINCT task_group FROM candidates").fetchall()]
    sides = [split_of(group, spec.holdout_percent, spec.holdout_salt) for group in groups]
    connection.register(
        "splits", pa.table({"task_group": pa.array(groups, pa.string()), "split": pa.array(sides, pa.string())})
    )


def _rank(connection: duckdb.DuckDBPyConnection) -> None:
    """Table `ranked`: the rows among which duplicates are looked for, best first, with the best of equal content.

    `heldout` sorts before `train`: what is held out is never given up for a row that would give it away.
    """
    connection.sql(
        """
        CREATE TABLE ranked AS
        WITH eligible AS (
            SELECT trajectory_id, task_id, content_digest, row_number() OVER (
                ORDER BY split, reward DESC, list_position(['completed', 'partial', 'failed'], end_state),
                arrived_at, trajectory_id) AS rank
            FROM candidates JOIN splits USING (task_group) JOIN filtered USING (trajectory_id)
            WHERE state = 'resolved' AND (passes OR split = 'heldout')
        )
        SELECT *, first_value(trajectory_id) OVER (PARTITION BY content_digest ORDER BY rank) AS original FROM eligible
        """
    )


def _near(connection: duckdb.DuckDBPyConnection, rows: LanceDataset, spec: Spec) -> None:
    """Table `near`: the near duplicates among rows of different content."""
    if spec.near_duplicates is None:
        connection.sql("CREATE TABLE near (trajectory_id VARCHAR, duplicate_of VARCHAR)")
        return
    unlike = connection.sql(
        "SELECT trajectory_id AS id, content_digest, task_id, rank FROM ranked "
        "WHERE trajectory_id = original ORDER BY id"
    ).to_arrow_table()
    said = [texts(batch)["text"] for batch in prepared.batches(rows, unlike, ["id", "steps"])]
    text = pa.chunked_array([chunk for column in said for chunk in column.chunks], pa.string())
    episodes = unlike.rename_columns({"id": "trajectory_id"}).append_column("text", text)
    connection.register("near", near_duplicates(episodes, spec.near_duplicates))


def _decisions(connection: duckdb.DuckDBPyConnection, spec: Spec) -> pa.Table:
    signals = spec.reward_policy.signals
    awaited = [s.name for s in signals if s.required and s.silence is None] or [s.name for s in signals]
    return connection.sql(
        """
        WITH reasoned AS (
            SELECT c.*, s.split, r.original, n.duplicate_of,
                CASE WHEN c.state = 'pending' THEN 'pending'
                    WHEN c.state = 'conflicting' THEN 'conflicting'
                    WHEN c.state = 'expired' THEN 'unlabelled'
                    WHEN r.rank IS NULL THEN 'filtered'
                    WHEN r.original <> c.trajectory_id THEN 'exact duplicate'
                    WHEN n.duplicate_of IS NOT NULL THEN 'near duplicate'
                    WHEN s.split = 'heldout' THEN 'held out'
                    ELSE 'kept' END AS reason,
                list_transform(c.signals, lambda heard: heard.signal) AS names
            FROM candidates AS c JOIN splits AS s USING (task_group)
            LEFT JOIN ranked AS r USING (trajectory_id) LEFT JOIN near AS n USING (trajectory_id)
        )
        SELECT trajectory_id, content_digest, reason IN ('kept', 'held out') AS kept, split, reason,
            CASE reason
                WHEN 'pending' THEN strftime(matures_at, '%Y-%m-%dT%H:%M:%SZ')
                WHEN 'conflicting' THEN array_to_string(list_sort(list_distinct(
                    list_filter(names, lambda name: len(list_filter(names, lambda other: other = name)) > 1))), ', ')
                WHEN 'unlabelled' THEN
                    array_to_string(list_filter($awaited, lambda name: NOT list_contains(names, name)), ', ')
                WHEN 'exact duplicate' THEN original
                WHEN 'near duplicate' THEN duplicate_of END AS detail,
            reward, success, state, signals,
            sha256(concat_ws('|', content_digest, coalesce(printf('%.17g', reward), '-'),
                coalesce(success::VARCHAR, '-'), split, trajectory_id)) AS row_digest
        FROM reasoned ORDER BY trajectory_id
        """,
        params={"awaited": awaited},
    ).to_arrow_table()
