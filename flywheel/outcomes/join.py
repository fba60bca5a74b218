"""The as-of join: for each trajectory that had arrived, the verdict that the outcomes known by then give."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes.policy import RewardPolicy
from flywheel.schema import OUTCOMES, TIMESTAMP, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

HEARD = pa.struct([("signal", pa.string()), ("value", pa.float64()), ("outcome_id", pa.string())])

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

COMBINED = {
    "min": "list_min(values)",
    "mean": "list_sum(weighted) / list_sum(weights)",
    "first": "coalesce(spoken_values[1], values[1])",
}


def joined(home: Home, workspace: str, policy: RewardPolicy, as_of: datetime) -> pa.Table:
    """One row of `JOINED` for each trajectory that had arrived by `as_of`, ordered by trajectory_id.

    `state` is `pending` while a silent signal is waited for (exactly while `matures_at`, the end of that
    wait, lies after `as_of`), else `conflicting` where voices disagree and the policy holds, else `expired`
    where a required signal stayed silent or nothing was heard at all, else `resolved`. Only a resolved row
    has a reward and a success. `signals` are the ledger rows that made the verdict in the policy's order,
    all voices where they conflict; an assumed silence has no outcome_id. Outcomes of single steps have no
    part in it, nor has anything that arrived after `as_of`.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    with warehouse.connect() as connection:
        return connection.sql(statement(home, workspace, policy, sql_moment(as_of))).to_arrow_table().cast(JOINED)


def sql_moment(moment: datetime) -> str:
    """A moment as a SQL literal.

    Raises:
        FlywheelError: when it has no time zone.
    """
    if moment.tzinfo is None:
        raise FlywheelError(f"{moment.isoformat()} has no time zone; write it in UTC, as in 2026-01-31T00:00:00Z")
    return f"TIMESTAMPTZ {_text(moment.astimezone(UTC).isoformat())}"


def first_arrivals(home: Home, workspace: str, as_of: str) -> str:
    """A SQL relation of trajectories (all columns) that had arrived by the SQL moment `as_of`, one row an id.

    Where an id was written more than once, the row that arrived first stands: so it never changes.
    """
    return f"""(
        SELECT * FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)}
        WHERE arrived_at <= {as_of}
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, content_digest, source, source_line) = 1
    )"""


def statement(home: Home, workspace: str, policy: RewardPolicy, as_of: str = "now()") -> str:
    """The join as one SELECT over the Parquet files, as of a SQL moment: for `joined`, and for views.

    The latest row of each voice counts: by observed_at, then arrived_at, then id. A fact that is told twice
    (equal id) has its first arrival.
    """
    signals = ", ".join(
        f"({position}, {_text(s.name)}, {str(s.required).lower()}, {s.wait_hours!r}::DOUBLE, "
        f"{'NULL' if s.silence is None else repr(s.silence)}::DOUBLE, {s.weight!r}::DOUBLE)"
        for position, s in enumerate(policy.signals)
    )
    names = ", ".join(_text(s.name) for s in policy.signals)
    holds = str(policy.on_conflict == "hold").lower()
    return f"""
    WITH policy(position, signal, required, wait_hours, silence, weight) AS (VALUES {signals}),
    arrived AS (
        SELECT id AS trajectory_id, min(arrived_at) AS arrived_at
        FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)}
        WHERE arrived_at <= {as_of} GROUP BY id
    ),
    facts AS (
        SELECT id, trajectory_id, signal, value, source, checker_version, observed_at, min(arrived_at) AS arrived_at
        FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)}
        WHERE arrived_at <= {as_of} AND step_index IS NULL AND isfinite(value) AND signal IN ({names})
        GROUP BY ALL
    ),
    voices AS (
        SELECT trajectory_id, signal, source, checker_version,
            max(struct_pack(observed_at, arrived_at, id, value)) AS latest
        FROM facts GROUP BY ALL
    ),
    spoken AS (
        SELECT trajectory_id, signal, max(latest) AS latest,
            {holds} AND bool_or(latest.value >= {policy.success_at!r}) AND bool_or(latest.value < {policy.success_at!r})
                AS conflict,
            list(struct_pack(signal, value := latest.value, outcome_id := latest.id) ORDER BY latest) AS rows
        FROM voices GROUP BY ALL
    ),
    heard AS (
        SELECT trajectory_id, position, required, weight,
            latest.value AS spoke,
            latest IS NULL AS silent,
            coalesce(conflict, false) AS conflict,
            coalesce(latest.value, silence) AS value,
            CASE WHEN latest IS NULL THEN arrived_at + to_microseconds(round(wait_hours * 3.6e9)::BIGINT)
                ELSE arrived_at END AS due,
            CASE WHEN conflict THEN rows
                WHEN latest IS NOT NULL
                    THEN [struct_pack(signal, value := latest.value, outcome_id := latest.id)]
                WHEN silence IS NOT NULL THEN [struct_pack(signal, value := silence, outcome_id := NULL::VARCHAR)]
                ELSE [] END AS made_of
        FROM arrived CROSS JOIN policy LEFT JOIN spoken USING (trajectory_id, signal)
    ),
    verdicts AS (
        SELECT trajectory_id,
            max(due) AS matures_at,
            bool_or(conflict) AS conflict,
            bool_or(required AND value IS NULL) OR count(value) = 0 AS without,
            list(value ORDER BY position) FILTER (value IS NOT NULL) AS values,
            list(value * weight ORDER BY position) FILTER (value IS NOT NULL) AS weighted,
            list(weight ORDER BY position) FILTER (value IS NOT NULL) AS weights,
            list(spoke ORDER BY position) FILTER (NOT silent) AS spoken_values,
            flatten(list(made_of ORDER BY position) FILTER (NOT (silent AND due > {as_of}))) AS signals
        FROM heard GROUP BY trajectory_id
    ),
    states AS (
        SELECT *, CASE WHEN matures_at > {as_of} THEN 'pending' WHEN conflict THEN 'conflicting'
            WHEN without THEN 'expired' ELSE 'resolved' END AS state
        FROM verdicts
    ),
    rewards AS (
        SELECT *, CASE WHEN state = 'resolved' THEN {COMBINED[policy.combine]} + 0.0 END AS reward FROM states
    )
    SELECT trajectory_id, state, reward, reward >= {policy.success_at!r} AS success,
        coalesce(signals, []) AS signals, matures_at
    FROM rewards ORDER BY trajectory_id
    """


def _text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"
