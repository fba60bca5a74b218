"""A recording: one trajectory under way, from its first step to its end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from flywheel.capture.journals.events import Began, Ended, Event, Said
from flywheel.capture.journals.writer import Moved, Writer
from flywheel.capture.validity import checked
from flywheel.schema import EndState, FlywheelError, Step, Trajectory, canonical_json

if TYPE_CHECKING:
    from flywheel.capture.recorders.recorder import Fact, Recorder

# The recording whose block or function this thread or task is in.
CURRENT: ContextVar[Recording | None] = ContextVar("flywheel recording", default=None)


def current() -> Recording:
    """The recording that this code runs in: that of the innermost block or recorded function around it.

    Raises:
        FlywheelError: where there is none.
    """
    recording = CURRENT.get()
    if recording is None:
        raise FlywheelError("nothing is being recorded here: call this within a recorder's trajectory")
    return recording


class Recording:
    """A trajectory under way; `Recorder.trajectory` makes them.

    Each call returns when what it was given is on disk. Those that begin with `a` are for tasks of asyncio: they wait
    without holding up the others, and what many tasks say at once shares a flush.
    """

    def __init__(self, recorder: Recorder, trajectory: Trajectory, writer: Writer) -> None:
        self.ended = False
        self.redactor = recorder.redactor()
        self._boundary = recorder.boundary(trajectory.source)
        self._recorder, self._writer = recorder, writer
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._file: str | None = None
        header = self.redactor.header(self._boundary.header(checked(trajectory)))
        self.id = header.id
        self._told: dict[str, Any] = {}
        # What a journal holds so far: another one begins with it, should a disk fail under this one.
        self._said: list[Event] = []
        if about := self._about():
            metadata = canonical_json({**msgspec.json.decode(header.metadata), **about})
            header = msgspec.structs.replace(header, metadata=metadata)
        self._header = Began(header)

    @property
    def here(self) -> bool:
        """Whether this is the process that began it: a fork must begin one of its own."""
        return self._process == os.getpid()

    def begin(self) -> None:
        """Write that it has begun; `Recorder.trajectory` does."""
        self._wait(self._header)

    async def abegin(self) -> None:
        """As `begin`, for a task."""
        await self._await(self._header)

    def step(self, step: Step | None = None, /, **fields: Any) -> int:
        """Record a step, given whole or by its fields; returns its index. One without a time gets the clock's."""
        return self._wait(self._step(step, fields))

    async def astep(self, step: Step | None = None, /, **fields: Any) -> int:
        """As `step`, for a task."""
        return await self._await(self._step(step, fields))

    def outcome(self, signal: str, value: float, **fact: Unpack[Fact]) -> None:
        """Record an outcome of this trajectory, at any time."""
        self._recorder.outcome(self.id, signal, value, **fact)

    async def aoutcome(self, signal: str, value: float, **fact: Unpack[Fact]) -> None:
        """As `outcome`, for a task."""
        await self._recorder.aoutcome(self.id, signal, value, **fact)

    def end(self, state: EndState = "completed", error: str = "") -> None:
        """End the trajectory before its block does: nothing can be added to it any more."""
        self._wait(self._end(state, error))

    async def aend(self, state: EndState = "completed", error: str = "") -> None:
        """As `end`, for a task."""
        await self._await(self._end(state, error))

    def _step(self, step: Step | None, fields: dict[str, Any]) -> Said:
        self._check()
        at = self._recorder.now()
        step = step or Step(**fields)
        step = checked(step if step.at else msgspec.structs.replace(step, at=at))
        step = self.redactor.step(self._boundary.step(step))
        return Said(self.id, at, step, self._about())

    def _end(self, state: EndState, error: str) -> Ended:
        self._check()
        error = self.redactor.text(error)
        self._told = {}
        return checked(Ended(self.id, self._recorder.now(), state, error, self._about()))

    def _about(self) -> dict[str, Any]:
        """What was replaced and left out so far, where that is not told yet."""
        counts, left_out = dict(sorted(self.redactor.counts.items())), self._boundary.about()
        about = ({"redactions": counts} if counts else {}) | ({"boundary": left_out} if left_out else {})
        if about == self._told:
            return {}
        self._told = about
        return about

    def _wait(self, event: Event) -> int:
        index, written = self._put(event)
        with self._recorded(event):
            self._recorder.wait(written)
        return index

    async def _await(self, event: Event) -> int:
        index, written = self._put(event)
        with self._recorded(event):
            # It will be written, also when this task is cancelled now.
            await asyncio.wrap_future(written)
        return index

    def _put(self, event: Event) -> tuple[int, Future[str]]:
        """Have an event written behind what was said before; its index among the steps, and the writing."""
        with self._lock:
            self._check()
            index = max(0, len(self._said) - 1)
            while True:
                file, events = self._writer.file, [event]
                if file != self._file:
                    events = [*self._said, event]
                try:
                    written = self._recorder.put(self._writer, events, file)
                except Moved:
                    continue
                self._file = file
                self._said.append(event)
                self.ended = isinstance(event, Ended)
                return index, written

    @contextmanager
    def _recorded(self, event: Event) -> Iterator[None]:
        """While an event is being written: one that was not has not been said."""
        try:
            yield
        except FlywheelError:
            with self._lock:
                self._said = [one for one in self._said if one is not event]
                self.ended = self.ended and not isinstance(event, Ended)
            raise

    def _check(self) -> None:
        if self.ended:
            raise FlywheelError(f"trajectory {self.id} has ended; begin another one")
        if not self.here:
            raise FlywheelError(f"trajectory {self.id} was begun in another process; begin one of this process's own")
