"""The as-of join: for each trajectory that had arrived, the verdict that the outcomes known by then give."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes import verdict
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import OUTCOMES, TIMESTAMP, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

# `role`: it `counted`, its silence was `assumed`, it was `outranked` by another signal, or it is in `conflict`.
HEARD = pa.struct(
    [
        ("signal", pa.string()),
        ("value", pa.float64()),
        ("outcome_id", pa.string()),
        ("weight", pa.float64()),
        ("role", pa.string()),
    ]
)

# What the join reads of captures: for those who have it at hand, one row an id, of its first arrival.
CANDIDATES = pa.schema([("id", pa.string()), ("arrived_at", TIMESTAMP), ("task_type", pa.string())])

JOINED = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("state", pa.string()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("signals", pa.list_(HEARD)),
        ("matures_at", TIMESTAMP),
    ]
)


def joined(
    home: Home,
    workspace: str,
    policy: RewardPolicy,
    as_of: datetime,
    *,
    only: pa.Table | None = None,
    candidates: pa.Table | None = None,
) -> pa.Table:
    """One row of `JOINED` for each trajectory that had arrived by `as_of`, ordered by trajectory_id.

    `state` is `pending` while a silent signal is waited for (exactly while `matures_at`, the end of that
    wait, lies after `as_of`), else `conflicting` where voices disagree and the policy holds, else `expired`
    where a required signal stayed silent or nothing was heard at all, else `resolved`. Only a resolved row
    has a reward and a success. `signals` are the ledger rows that made the verdict in the policy's order, each
    with its `role`: all voices where they conflict, all steps where the policy asks for steps; an assumed silence
    has no outcome_id. Nothing that arrived after `as_of` has a part in it.

    `only` is a table with a column trajectory_id: the rows of those trajectories alone, for little more than
    their share of the cost. `candidates`, rows of `CANDIDATES` with each id once, spares reading the captures.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    with warehouse.connect() as connection:
        given: dict[str, str] = {}
        if only is not None:
            connection.register("only_these", only.select(["trajectory_id"]))
            given["only"] = "only_these"
        if candidates is not None:
            connection.register("these_candidates", candidates.select(CANDIDATES.names))
            given["candidates"] = "these_candidates"
        query = statement(home, workspace, policy, sql_moment(as_of), **given)
        return connection.sql(query).to_arrow_table().cast(JOINED)


def sql_moment(moment: datetime) -> str:
    """A moment as a SQL literal.

    Raises:
        FlywheelError: when it has no time zone.
    """
    if moment.tzinfo is None:
        raise FlywheelError(f"{moment.isoformat()} has no time zone; write it in UTC, as in 2026-01-31T00:00:00Z")
    return f"TIMESTAMPTZ {verdict.text(moment.astimezone(UTC).isoformat())}"


def first_arrivals(home: Home, workspace: str, as_of: str) -> str:
    """A SQL relation of trajectories (all columns) that had arrived by the SQL moment `as_of`, one row an id.

    Where an id was written more than once, the row that arrived first stands: so it never changes.
    """
    return f"""(
        SELECT * FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)}
        WHERE arrived_at <= {as_of}
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, content_digest, source, source_line) = 1
    )"""


def statement(
    home: Home,
    workspace: str,
    policy: RewardPolicy,
    as_of: str = "now()",
    *,
    only: str | None = None,
    candidates: str | None = None,
    ledger: str | None = None,
) -> str:
    """The join as one SELECT over the Parquet files, as of a SQL moment: for `joined`, and for views.

    The latest row of each voice (source and checker version) counts: by observed_at, then arrived_at, then id. A
    fact that is told twice (equal id) has its first arrival. `only`, `candidates` and `ledger` are SQL relations
    that take the place of all candidates, of the captures, and of the workspace's outcomes.
    """
    among = f" SEMI JOIN {only} USING (trajectory_id)" if only else ""
    ledger = ledger or warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
    arrived = f"(SELECT * FROM {arrivals(home, workspace, policy, as_of, candidates)}{among})"
    return verdict.select(policy, arrived, f"(SELECT * FROM {ledger}{among})" if among else ledger, as_of)


def arrivals(home: Home, workspace: str, policy: RewardPolicy, as_of: str, candidates: str | None = None) -> str:
    """A SQL relation of trajectory_id, arrived_at and task_type, one row a trajectory that had arrived.

    `task_type` is NULL where the policy makes no difference between task types and captures are read.
    """
    if candidates:
        return f"(SELECT id AS trajectory_id, arrived_at, task_type FROM {candidates} WHERE arrived_at <= {as_of})"
    # Reading and comparing what decides between equal arrivals costs, and task types matter to few policies.
    matters = any(signal.wait_by_task_type for signal in policy.signals)
    first = "arg_min(task_type, (arrived_at, content_digest, source, source_line))" if matters else "NULL::VARCHAR"
    return f"""(
        SELECT id AS trajectory_id, min(arrived_at) AS arrived_at, {first} AS task_type
        FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)} WHERE arrived_at <= {as_of} GROUP BY id
    )"""
