"""The ledger page by page, in the order in which its rows arrived."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from flywheel import warehouse
from flywheel.capture import cursors, stored
from flywheel.schema import OUTCOMES
from flywheel.settings import Home

LARGEST = 1_000  # rows of a page
FIRST = datetime.min.replace(year=1900, tzinfo=UTC), ""  # before every row


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome of the ledger, as `schema.Outcome` has it, with its id."""

    id: str
    workspace: str
    trajectory_id: str
    signal: str
    value: float
    source: str
    checker_version: str
    step_index: int | None
    observed_at: datetime
    arrived_at: datetime
    comment: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes in order of arrival; `next` is the cursor of the page behind this one, null where it is the last.

    Nothing is ever added that arrived at or before `closed_through`: with it as `since`, the next reading misses
    nothing and tells again at most what arrived after it.
    """

    outcomes: list[Stored]
    next: str | None
    closed_through: datetime | None


def page(
    home: Home,
    workspace: str,
    *,
    trajectory: str | None = None,
    signal: str | None = None,
    since: datetime | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """A page of a workspace's ledger: of one trajectory, of one signal, what arrived after `since`, behind a cursor.

    Raises:
        FlywheelError: when the cursor is none that a page gave.
    """
    at, id = cursors.decoded(cursor) or FIRST
    if since and since > at:
        at, id = since, "\x7f"
    closed = stored.through(home, workspace)  # before the rows are read: none comes in between
    with warehouse.connect() as connection:
        rows = (
            connection.sql(
                f"""
                SELECT * FROM (
                    SELECT * FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)}
                    WHERE ($trajectory IS NULL OR trajectory_id = $trajectory) AND ($signal IS NULL OR signal = $signal)
                    QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, comment) = 1
                ) WHERE arrived_at > $at OR (arrived_at = $at AND id > $id)
                ORDER BY arrived_at, id LIMIT $rows
                """,
                params={"trajectory": trajectory, "signal": signal, "at": at, "id": id, "rows": limit + 1},
            )
            .to_arrow_table()
            .cast(OUTCOMES)
            .to_pylist()
        )
    found = [msgspec.convert(row, Stored) for row in rows[:limit]]
    after = (found[-1].arrived_at, found[-1].id) if len(rows) > limit else None
    return Page(outcomes=found, next=cursors.encoded(after) if after else None, closed_through=closed)
