"""Unfinished: a trajectory that a journal tells step by step, as far as it has been read."""

from __future__ import annotations

import msgspec

from flywheel.capture.journals.events import Ended, Said
from flywheel.schema import Step, Trajectory, canonical_json


class Unfinished:
    """A trajectory that began, and what was said of it since; until it ends, it arrives with its last event."""

    def __init__(self, begun: Trajectory) -> None:
        self._trajectory = begun
        self._steps: list[Step] = []

    def take(self, event: Said | Ended) -> Trajectory | None:
        """Take in a step or the end, in their order; the whole trajectory when it has ended."""
        trajectory = msgspec.structs.replace(self._trajectory, arrived_at=event.at)
        about = event.about | ({"error": event.error} if isinstance(event, Ended) and event.error else {})
        if about:
            metadata = canonical_json({**msgspec.json.decode(trajectory.metadata), **about})
            trajectory = msgspec.structs.replace(trajectory, metadata=metadata)
        self._trajectory = trajectory
        if isinstance(event, Said):
            self._steps.append(event.step)
            return None
        return msgspec.structs.replace(self.so_far, end_state=event.state)

    @property
    def so_far(self) -> Trajectory:
        """All of it that is known."""
        return msgspec.structs.replace(self._trajectory, steps=tuple(self._steps))
