"""The ledger of outcomes: facts are appended, never edited, and each is counted once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from flywheel import warehouse
from flywheel.schema import OUTCOMES, FlywheelError, Outcome, outcomes_table
from flywheel.settings import Home


def append(home: Home, outcomes: Sequence[Outcome]) -> int:
    """Append the outcomes whose facts the ledger does not hold yet, and return how many those were.

    Two processes may append the same fact at once; readers count it once all the same.

    Raises:
        FlywheelError: when a value is not a finite number; then nothing is written.
    """
    for outcome in outcomes:
        if not math.isfinite(outcome.value):
            raise FlywheelError(
                f"outcome {outcome.signal!r} of trajectory {outcome.trajectory_id!r} has the value {outcome.value}; "
                "give a finite number"
            )
    first: dict[str, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: o.arrived_at):
        first.setdefault(outcome.id, outcome)
    known = set()
    for workspace in {outcome.workspace for outcome in first.values()}:
        known.update(warehouse.read(home.outcomes, OUTCOMES, workspace)["id"].to_pylist())
    new = [outcome for key, outcome in first.items() if key not in known]
    if new:
        warehouse.append(home.outcomes, outcomes_table(new))
    return len(new)


def facts(home: Home, workspace: str, *, as_of: datetime | None = None, trajectory_id: str | None = None) -> pa.Table:
    """The ledger as rows of `OUTCOMES`, each fact once with its first arrival, ordered by trajectory, signal and time.

    `as_of` leaves out what arrived after it. Outcomes of single steps are included.
    """
    conditions = ["true"]
    parameters: dict[str, object] = {}
    if as_of is not None:
        conditions.append("arrived_at <= $as_of")
        parameters["as_of"] = as_of
    if trajectory_id is not None:
        conditions.append("trajectory_id = $trajectory_id")
        parameters["trajectory_id"] = trajectory_id
    with warehouse.connect() as connection:
        rows = connection.sql(
            f"""
            SELECT * FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)}
            WHERE {" AND ".join(conditions)}
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, comment) = 1
            ORDER BY trajectory_id, signal, step_index NULLS FIRST, observed_at, arrived_at, id
            """,
            params=parameters,
        )
        return rows.to_arrow_table().cast(OUTCOMES)
