"""The ledger of outcomes, read: facts are appended as they arrive, never edited, and each is counted once."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes.join import sql_moment
from flywheel.schema import OUTCOMES
from flywheel.settings import Home


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
