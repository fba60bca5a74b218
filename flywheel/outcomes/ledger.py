"""The ledger of outcomes, read: facts are appended as they arrive, never edited, and each is counted once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes.join import sql_moment
from flywheel.schema import OUTCOMES, arrival_day
from flywheel.settings import Home

STEP_REWARD = pa.struct(
    [("step_index", pa.int32()), ("signal", pa.string()), ("value", pa.float64()), ("outcome_id", pa.string())]
)

STEP_REWARDS = pa.schema([("trajectory_id", pa.string()), ("steps", pa.list_(STEP_REWARD))])


def facts(home: Home, workspace: str, *, as_of: datetime | None = None, trajectory_id: str | None = None) -> pa.Table:
    """The ledger as rows of `OUTCOMES`, each fact once with its first arrival, ordered by trajectory, signal and time.

    `as_of` leaves out what arrived after it. Outcomes of single steps are included.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    known = f"arrived_at <= {sql_moment(as_of)}" if as_of else "true"
    with warehouse.connect() as connection:
        rows = connection.sql(
            f"""
            SELECT * FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)}
            WHERE {known} AND ($trajectory_id IS NULL OR trajectory_id = $trajectory_id)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, comment) = 1
            ORDER BY trajectory_id, signal, step_index NULLS FIRST, observed_at, arrived_at, id
            """,
            params={"trajectory_id": trajectory_id},
        )
        return rows.to_arrow_table().cast(OUTCOMES)


def step_rewards(home: Home, workspace: str, as_of: datetime, *, only: pa.Table | None = None) -> pa.Table:
    """The rewards of single steps as of a moment: rows of `STEP_REWARDS`, ordered by trajectory_id.

    A trajectory with none has no row. `steps` is ordered by step_index, then signal, then voice; of each voice's
    revisions of a step the latest counts, by observed_at, then arrived_at, then id. `only` is a table with a
    column trajectory_id.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    with warehouse.connect() as connection:
        if only is not None:
            connection.register("only_these", only.select(["trajectory_id"]))
        return (
            connection.sql(
                f"""
                SELECT trajectory_id,
                    list(struct_pack(step_index, signal, value := latest.value, outcome_id := latest.id)
                        ORDER BY step_index, signal, source, checker_version) AS steps
                FROM (
                    SELECT trajectory_id, step_index, signal, source, checker_version,
                        max(struct_pack(observed_at, arrived_at, id, value)) AS latest
                    FROM (
                        SELECT id, trajectory_id, step_index, signal, source, checker_version, value, observed_at,
                            min(arrived_at) AS arrived_at
                        FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)}
                        {"" if only is None else "SEMI JOIN only_these USING (trajectory_id)"}
                        WHERE arrived_at <= {sql_moment(as_of)} AND step_index IS NOT NULL AND isfinite(value)
                        GROUP BY ALL
                    ) GROUP BY ALL
                ) GROUP BY trajectory_id ORDER BY trajectory_id
                """
            )
            .to_arrow_table()
            .cast(STEP_REWARDS)
        )


def touched(home: Home, workspace: str, after: datetime, until: datetime) -> pa.Table:
    """The ids (column trajectory_id, each once, in order) of which something arrived in the interval (after, until].

    A verdict can also change with time alone, when a wait ends: see `matures_at`. Only the files of the days in
    question are opened.

    Raises:
        FlywheelError: when a moment has no time zone.
    """
    within = f"arrived_at > {sql_moment(after)} AND arrived_at <= {sql_moment(until)}"
    arrived = [
        f"SELECT {column} AS trajectory_id FROM {_these(files)} WHERE {within}"
        for column, root in (("id", home.captures), ("trajectory_id", home.outcomes))
        if (files := _days(root, workspace, after, until))
    ]
    schema = pa.schema([("trajectory_id", pa.string())])
    if not arrived:
        return schema.empty_table()
    with warehouse.connect() as connection:
        return connection.sql(f"{' UNION '.join(arrived)} ORDER BY trajectory_id").to_arrow_table().cast(schema)


def _days(root: Path, workspace: str, after: datetime, until: datetime) -> list[Path]:
    """A table's files of the days that an interval touches."""
    first, last = (arrival_day(moment.astimezone(UTC)).isoformat() for moment in (after, until))
    days = ((path, path.parent.name.removeprefix("day=")) for path in warehouse.files(root, workspace))
    return [path for path, day in days if first <= day <= last]


def _these(files: list[Path]) -> str:
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    return f"read_parquet([{listed}], hive_partitioning=false, union_by_name=true)"
