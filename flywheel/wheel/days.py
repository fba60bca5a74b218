"""The stages of one day: the agents act, captures are settled, outcomes join the ledger."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.capture.settling.settle import settle
from flywheel.outcomes import lag
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, FlywheelError
from flywheel.settings import Home
from flywheel.wheel import versioning, week
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts, Row


def parse(key: str) -> date:
    """The day that a partition key names.

    Raises:
        FlywheelError: when it names none.
    """
    try:
        return date.fromisoformat(key)
    except ValueError as error:
        raise FlywheelError(f"{key!r} names no day; write it as in 2026-11-02") from error


def agents(home: Home, config: WheelConfig, day: date) -> Facts:
    """Let the day's simulated agents act, and let the late outcomes that are due arrive."""
    with timed(home, day.isoformat(), "agents"):
        episodes, late = week.work(home, config, day)
    return Facts(counts={"episodes": episodes, "late outcomes": late})


def captures(home: Home, config: WheelConfig, day: date) -> Facts:
    """Settle the journals, and tell what arrived on the day."""
    with timed(home, day.isoformat(), "captures"):
        settle(home, config.workspace, now=min(datetime.now(UTC), _end(day)))
        table = warehouse.read(home.captures, TRAJECTORIES, config.workspace, day)
        quarantined = warehouse.read(home.quarantine, QUARANTINE, config.workspace, day)
        by_agent = table.group_by(["agent", "agent_version", "end_state"], use_threads=False).aggregate(
            [([], "count_all")]
        )
    rows = sorted(by_agent.to_pylist(), key=lambda r: (r["agent"], r["agent_version"], r["end_state"]))
    return Facts(
        digest=_digest(table, "id", "content_digest", "arrived_at"),
        counts={
            "trajectories": table.num_rows,
            "steps": sum(table["n_steps"].to_pylist()),
            "quarantined": quarantined.num_rows,
            "files": len(warehouse.files(home.captures, config.workspace, day)),
        },
        tables={"agents": [_renamed(r) for r in rows]},
    )


def outcomes(home: Home, config: WheelConfig, day: date) -> Facts:
    """Tell which outcomes we learned of on the day, and how late each signal arrives as of its end."""
    with timed(home, day.isoformat(), "outcomes"):
        table = warehouse.read(home.outcomes, OUTCOMES, config.workspace, day)
        by_signal = table.group_by(["signal", "value"], use_threads=False).aggregate([([], "count_all")])
        known = lag.curves(home, config.workspace, versioning.spec(config).reward_policy, _end(day))
        digest = _digest(table, "id", "arrived_at")
        # A day that is not over may be told again with more: what was drawn of it then is another picture.
        plot = home.outcomes / "plots" / f"{config.workspace}-{day.isoformat()}-{digest[:12]}.png"
        if not plot.exists():
            lag.draw(known, plot)
    rows = sorted(by_signal.to_pylist(), key=lambda r: (r["signal"], r["value"]))
    return Facts(
        digest=digest,
        counts={"outcomes": table.num_rows},
        tables={
            "signals": [_renamed(r) for r in rows],
            "of episodes of earlier days": _late(home, config, table, day),
            "arrival lag in hours": known.lags.to_pylist(),
            "what waiting would have changed": known.waits.to_pylist(),
        },
        plots={"arrival lag": plot},
    )


def _late(home: Home, config: WheelConfig, heard: pa.Table, day: date) -> list[Row]:
    """The day's outcomes of episodes that had arrived before it, the latest first."""
    with warehouse.connect() as connection:
        connection.register("heard", heard)
        rows = connection.sql(
            f"""
            WITH episodes AS (
                SELECT id, min(arrived_at) AS arrived_at
                FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, config.workspace)}
                WHERE arrived_at < $midnight GROUP BY id
            )
            SELECT trajectory_id AS trajectory, signal, value, source,
                round(date_diff('second', e.arrived_at, h.arrived_at) / 3600, 1) AS "hours late"
            FROM heard AS h JOIN episodes AS e ON e.id = h.trajectory_id
            ORDER BY "hours late" DESC, h.id
            """,
            params={"midnight": _end(day) - timedelta(days=1)},
        )
        return rows.to_arrow_table().to_pylist()


def schema_failures(home: Home, config: WheelConfig) -> list[Row]:
    """Files of captures whose columns or types are not those of the vocabulary."""
    return [
        {"file": path.name, "columns": str(found.names)}
        for path in warehouse.files(home.captures, config.workspace)
        if not (found := pq.read_schema(artifacts.source(path))).equals(TRAJECTORIES)
    ]


def _end(day: date) -> datetime:
    """The last moment of a day: what arrives after it belongs to a later one."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)


def _digest(table: pa.Table, *columns: str) -> str:
    """A digest of a partition's rows by what names their content: it knows nothing of files and their order."""
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    return hashlib.sha256("\n".join(sorted("|".join(map(str, row)) for row in rows)).encode()).hexdigest()


def _renamed(row: Row) -> Row:
    return {("rows" if name == "count_all" else name): value for name, value in row.items()}
