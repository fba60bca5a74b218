"""Events of journals, as short as they can be."""

from __future__ import annotations

from datetime import UTC, datetime

from flywheel.capture.journals.events import Told, Whole
from flywheel.schema import Outcome, Step, Trajectory

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def whole(id: str, said: str) -> Whole:
    """A trajectory of one step."""
    return Whole(
        Trajectory(
            id=id,
            workspace="desk",
            task_id="1",
            task_group="1",
            task_type="chat",
            agent="bot",
            end_state="completed",
            arrived_at=NOON,
            source="test",
            steps=(Step(role="user", content=said),),
        )
    )


def told(id: str) -> Told:
    """An outcome of a trajectory."""
    return Told(
        Outcome(
            workspace="desk",
            trajectory_id=id,
            signal="done",
            value=1.0,
            source="test",
            observed_at=NOON,
            arrived_at=NOON,
        )
    )
