"""The stages of one day: the agents act, captures are settled, outcomes join the ledger."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from flywheel import warehouse
from flywheel.capture.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES
from flywheel.settings import Home
from flywheel.wheel import week
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts, Row


def parse(key: str) -> date:
    """The day that a partition key names."""
    return date.fromisoformat(key)


def agents(home: Home, config: WheelConfig, day: date) -> Facts:
    """Let the day's simulated agents act, and let the late outcomes that are due arrive."""
    with timed(home, day.isoformat(), "agents"):
        episodes, late = week.work(home, config, day)
    return Facts(counts={"episodes": episodes, "late outcomes": late})


def captures(home: Home, config: WheelConfig, day: date) -> Facts:
    """Settle the journals, and tell what arrived on the day."""
    with timed(home, day.isoformat(), "captures"):
        settle(home, config.workspace, now=min(datetime.now(UTC), _end(day)))
        files = warehouse.files(home.captures, config.workspace, day)
        table = warehouse.read(home.captures, TRAJECTORIES, config.workspace, day)
        quarantined = warehouse.read(home.quarantine, QUARANTINE, config.workspace, day)
        by_agent = table.group_by(["agent", "agent_version", "end_state"], use_threads=False).aggregate(
            [([], "count_all")]
        )
    rows = sorted(by_agent.to_pylist(), key=lambda r: (r["agent"], r["agent_version"], r["end_state"]))
    return Facts(
        digest=_names(files),
        counts={
            "trajectories": table.num_rows,
            "steps": sum(table["n_steps"].to_pylist()),
            "quarantined": quarantined.num_rows,
            "files": len(files),
        },
        tables={"agents": [_renamed(r) for r in rows]},
    )


def outcomes(home: Home, config: WheelConfig, day: date) -> Facts:
    """Tell which outcomes we learned of on the day."""
    with timed(home, day.isoformat(), "outcomes"):
        files = warehouse.files(home.outcomes, config.workspace, day)
        table = warehouse.read(home.outcomes, OUTCOMES, config.workspace, day)
        by_signal = table.group_by(["signal", "value"], use_threads=False).aggregate([([], "count_all")])
    rows = sorted(by_signal.to_pylist(), key=lambda r: (r["signal"], r["value"]))
    return Facts(
        digest=_names(files),
        counts={"outcomes": table.num_rows},
        tables={"signals": [_renamed(r) for r in rows]},
    )


def schema_failures(home: Home, config: WheelConfig) -> list[Row]:
    """Files of captures whose columns or types are not those of the vocabulary."""
    return [
        {"file": path.name, "columns": str(found.names)}
        for path in warehouse.files(home.captures, config.workspace)
        if not (found := pq.read_schema(path)).equals(TRAJECTORIES)
    ]


def _end(day: date) -> datetime:
    """The last moment of a day: what arrives after it belongs to a later one."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)


def _names(files: list[Path]) -> str:
    """A digest of a partition: its files are named by their content."""
    return hashlib.sha256("\n".join(path.name for path in files).encode()).hexdigest()


def _renamed(row: Row) -> Row:
    return {("rows" if name == "count_all" else name): value for name, value in row.items()}
