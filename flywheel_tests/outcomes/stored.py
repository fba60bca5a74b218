"""Short ways to write trajectories and outcomes into a data folder, as they would have arrived."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from flywheel import warehouse
from flywheel.schema import Outcome, Step, Trajectory, outcomes_table, trajectories_table
from flywheel.settings import Home

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    """So many hours after noon of the first day."""
    return NOON + timedelta(hours=hours)


def trajectory(id: str, *said: str, hours: float = 0, task: str = "t", **fields) -> Trajectory:
    """A trajectory in which a user asks and an assistant answers, in turns."""
    steps = [
        Step(role="assistant" if number % 2 else "user", content=text) for number, text in enumerate(said or (id,))
    ]
    given = {"task_id": task, "task_group": f"group of {task}", "task_type": "chat", "agent": "bot"} | fields
    return Trajectory(
        **{"end_state": "completed", "source": "test"} | given,
        id=id,
        workspace="w",
        arrived_at=at(hours),
        steps=tuple(steps),
    )


def outcome(trajectory_id: str, signal: str, value: float, hours: float = 0, **fields) -> Outcome:
    """An outcome that was observed, and known at once, so many hours after noon."""
    return Outcome(
        **{"source": "test", "observed_at": at(hours), "arrived_at": at(hours)} | fields,
        workspace="w",
        trajectory_id=trajectory_id,
        signal=signal,
        value=value,
    )


def store(home: Home, *records: Trajectory | Outcome) -> None:
    """One arrival: a file a partition and kind."""
    trajectories = [record for record in records if isinstance(record, Trajectory)]
    outcomes = [record for record in records if isinstance(record, Outcome)]
    if trajectories:
        warehouse.append(home.captures, trajectories_table(trajectories))
    if outcomes:
        warehouse.append(home.outcomes, outcomes_table(outcomes))


def store_each(home: Home, arrivals: Iterable[Iterable[Trajectory | Outcome]]) -> None:
    """Several arrivals, one after the other."""
    for records in arrivals:
        store(home, *records)
