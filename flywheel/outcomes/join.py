"""The as-of join: for each trajectory that had arrived, the verdict that the outcomes known by then give."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    columns: Sequence[str] = tuple(JOINED.names),
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
    `columns` are those of `JOINED` to make: `signals` is the dearest.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    moment = sql_moment(as_of)
    with warehouse.connect() as connection:
        given: dict[str, str] = {}
        if only is not None:
            connection.register("only_these", only.select(["trajectory_id"]))
            given["only"] = "only_these"
        if candidates is not None:
            connection.register("these_candidates", candidates.select(CANDIDATES.names))
            given["candidates"] = "these_candidates"

        def answer(query: str, names: Sequence[str]) -> pa.Table:
            return connection.sql(f"SELECT {', '.join(names)} FROM ({query})").to_arrow_table()

        schema = pa.schema([JOINED.field(name) for name in columns])
        if not verdict.is_quick(policy):
            return answer(statement(home, workspace, policy, moment, **given), columns).cast(schema)
        # One statement for both ways would keep all that was heard in memory, to read it twice.
        alone = _alone(connection, home, workspace, policy)
        quick = verdict.quick(policy, *_read(home, workspace, policy, moment, **given), moment, alone)
        found = answer(quick, list(dict.fromkeys([*columns, "trajectory_id", "doubt"])))
        [doubtful] = np.nonzero(pc.fill_null(found["doubt"], False))
        if not len(doubtful):
            return found.select(columns).cast(schema)
        connection.register("doubtful", found.select(["trajectory_id"]).take(doubtful))
        sources = _read(home, workspace, policy, moment, **given | {"only": "doubtful"})
        again = answer(f"{verdict.careful(policy, *sources, moment)} ORDER BY trajectory_id", columns)
        rows = np.arange(len(found))
        rows[doubtful] = len(found) + np.arange(len(again))
        return pa.concat_tables([found.select(columns).cast(schema), again.cast(schema)]).take(rows)


def _alone(connection: duckdb.DuckDBPyConnection, home: Home, workspace: str, policy: RewardPolicy) -> list[str]:
    """The policy's signals of which the ledger has one voice, as far as the footers of its files tell."""
    if not warehouse.files(home.outcomes, workspace):
        return []
    files = str(home.outcomes / f"workspace={workspace}" / "day=*" / "*.parquet")
    groups = connection.sql(
        f"""
        SELECT DISTINCT bounds['signal'], [bounds['source'], bounds['checker_version']] FROM (
            SELECT map(list(path_in_schema), list([stats_min_value, stats_max_value])) AS bounds
            FROM parquet_metadata({verdict.text(files)})
            WHERE path_in_schema IN ('signal', 'source', 'checker_version') GROUP BY file_name, row_group_id
        )
        """
    ).fetchall()
    alone: list[str] = []
    for signal in policy.signals:
        said = [voice for (low, high), voice in groups if low is None or low <= signal.name <= high]
        if all(low == high is not None and voice == said[0] for voice in said for low, high in voice):
            alone.append(signal.name)
    return alone


def sql_moment(moment: datetime) -> str:
    """A moment as a SQL literal.

    Raises:
        FlywheelError: when it has no time zone.
    """
    if moment.tzinfo is None:
        raise FlywheelError(f"{moment.isoformat()} has no time zone; write it in UTC, as in 2026-01-31T00:00:00Z")
    return f"TIMESTAMPTZ {verdict.text(moment.astimezone(UTC).isoformat())}"


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
    read = _read(home, workspace, policy, as_of, only=only, candidates=candidates, ledger=ledger)
    return verdict.select(policy, *read, as_of)


def _read(
    home: Home,
    workspace: str,
    policy: RewardPolicy,
    as_of: str,
    *,
    only: str | None = None,
    candidates: str | None = None,
    ledger: str | None = None,
) -> tuple[str, str]:
    """The two relations that `verdict` reads: those who had arrived, and the ledger."""
    among = f" SEMI JOIN {only} USING (trajectory_id)" if only else ""
    ledger = ledger or warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
    arrived = f"(SELECT * FROM {_arrived(home, workspace, policy, as_of, candidates)}{among})"
    return arrived, f"(SELECT * FROM {ledger}{among})" if among else ledger


def arrivals(home: Home, workspace: str, policy: RewardPolicy, as_of: str) -> str:
    """A SQL relation of trajectory_id, arrived_at and task_type, one row a trajectory that had arrived.

    `task_type` is NULL where the policy makes no difference between task types.
    """
    return verdict.once(_arrived(home, workspace, policy, as_of, None))


def _arrived(home: Home, workspace: str, policy: RewardPolicy, as_of: str, candidates: str | None) -> str:
    """As `arrivals`; but a trajectory has a row for each time that it arrived."""
    if candidates:
        return f"(SELECT id AS trajectory_id, arrived_at, task_type FROM {candidates} WHERE arrived_at <= {as_of})"
    captures = f"{warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)} WHERE arrived_at <= {as_of}"
    if not any(signal.wait_by_task_type for signal in policy.signals):
        return f"(SELECT id AS trajectory_id, arrived_at, NULL::VARCHAR AS task_type FROM {captures})"
    # Reading and comparing what decides between equal arrivals costs, and task types matter to few policies.
    first = "arg_min(task_type, (arrived_at, content_digest, source, source_line))"
    return (
        f"(SELECT id AS trajectory_id, min(arrived_at) AS arrived_at, {first} AS task_type FROM {captures} GROUP BY id)"
    )
