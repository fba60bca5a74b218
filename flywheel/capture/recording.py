"""A recording: one trajectory under way, from its first step to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture.journal import Began, Ended, Event, Said
from flywheel.capture.redact import Redactor
from flywheel.capture.validity import checked
from flywheel.schema import EndState, FlywheelError, Step, Trajectory


class Recording:
    """A trajectory under way; `Recorder.trajectory` makes them."""

    def __init__(
        self,
        trajectory: Trajectory,
        *,
        write: Callable[[Sequence[Event]], None],
        clock: Callable[[], datetime],
        tell: Callable[..., None],
    ) -> None:
        self.id = trajectory.id
        self.ended = False
        self.redactor = Redactor()
        self._write, self._clock, self._tell = write, clock, tell
        self._process = os.getpid()
        self._steps = 0
        header = checked(trajectory)
        write([Began(msgspec.structs.replace(header, metadata=self.redactor.json(header.metadata)))])

    @property
    def here(self) -> bool:
        """Whether this is the process that began it: a fork must begin one of its own."""
        return self._process == os.getpid()

    def step(self, step: Step | None = None, /, **fields: Any) -> int:
        """Record a step, given whole or by its fields; returns its index. One without a time gets the clock's."""
        self._check()
        at = self._clock()
        step = step or Step(**fields)
        step = checked(step if step.at else msgspec.structs.replace(step, at=at))
        self._write([Said(self.id, at, self.redactor.step(step))])
        self._steps += 1
        return self._steps - 1

    def outcome(self, signal: str, value: float, **fields: Any) -> None:
        """Record an outcome of this trajectory; fields as in `Recorder.outcome`."""
        self._tell(self.id, signal, value, **fields)

    def end(self, state: EndState = "completed", error: str = "") -> None:
        """End the trajectory before its block does: nothing can be added to it any more."""
        self._check()
        self._write([checked(Ended(self.id, self._clock(), state, self.redactor.text(error)))])
        self.ended = True

    def _check(self) -> None:
        if self.ended:
            raise FlywheelError(f"trajectory {self.id} has ended; begin another one")
        if not self.here:
            raise FlywheelError(f"trajectory {self.id} was begun in another process; begin one of this process's own")
