"""The recorder: what an agent does, on disk when each call returns."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from flywheel.capture import workspaces
from flywheel.capture.journal import ROTATE, Event, Journal, Told, Whole
from flywheel.capture.recording import Recording
from flywheel.capture.redact import Redactor
from flywheel.capture.validity import checked, json_text, of_workspace
from flywheel.schema import FlywheelError, Outcome, Trajectory
from flywheel.settings import Home


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Recorder:
    """Records trajectories and outcomes of one agent into a workspace.

    Each call returns when what it was given is on disk (`batch` and `record` take many at the cost of one flush).
    Every recorder and every process has a file of its own, so any number may write at the same time; threads may
    share a recorder. Secrets are replaced before anything is written; `redactions` counts them by kind.

        recorder = Recorder(home(), "support", agent="desk-bot", agent_version="7")
        with recorder.trajectory(task_id="ticket-812", task_group="refunds", task_type="desk") as t:
            t.step(role="user", content="Where is my refund?")
            t.step(role="assistant", content="On its way.")
            t.outcome("resolved", 1.0, source="checker")
        recorder.outcome(t.id, "reopened", 1.0, source="ticketing")   # days later
    """

    def __init__(
        self,
        home: Home,
        workspace: str,
        *,
        agent: str,
        agent_version: str = "",
        model: str = "",
        provider: str = "",
        tools: Sequence[Mapping[str, Any]] = (),
        source: str = "recorder",
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        workspaces.require(home, workspace)
        self.redactions: Counter[str] = Counter()
        self._folder = home.journals / workspace
        self._clock = clock
        self._header = Trajectory(
            id="",
            workspace=workspace,
            task_id="",
            task_group="",
            task_type="",
            agent=agent,
            agent_version=agent_version,
            model=model,
            provider=provider,
            tools=Redactor().json(json_text(list(tools), "tools")),
            end_state="partial",
            arrived_at=datetime.min.replace(tzinfo=UTC),
            source=source,
            steps=(),
        )
        self._open: set[str] = set()
        self._batches = 0
        self._journal: Journal | None = None
        self._lock = threading.RLock()
        self._process = os.getpid()

    @contextmanager
    def trajectory(
        self,
        *,
        task_id: str,
        task_group: str = "",
        task_type: str = "",
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[Recording]:
        """Record a trajectory: completed when the block ends, failed when it raises (and the exception goes on).

        `task_group` is the task itself unless given. A trajectory whose id is already stored is not stored again.
        """
        began = self._now()
        header = msgspec.structs.replace(
            self._header,
            id=id or uuid.uuid4().hex,
            task_id=task_id,
            task_group=task_group or task_id,
            task_type=task_type,
            started_at=began,
            arrived_at=began,
            metadata=json_text(dict(metadata or {}), "metadata"),
        )
        with self._mine():
            if header.id in self._open:
                raise FlywheelError(f"trajectory {header.id} is being recorded already; give each its own id")
            self._open.add(header.id)
        recording = None
        try:
            recording = Recording(header, write=self._write, clock=self._now, tell=self.outcome)
            yield recording
        except BaseException as error:
            if recording and recording.here and not recording.ended:
                recording.end("failed", f"{type(error).__name__}: {error}")
            raise
        else:
            if not recording.ended:
                recording.end("completed")
        finally:
            self._open.discard(header.id)
            if recording:
                self.redactions += recording.redactor.counts
            self._rotate()

    def outcome(
        self,
        trajectory_id: str,
        signal: str,
        value: float,
        *,
        source: str = "recorder",
        checker_version: str = "",
        observed_at: datetime | None = None,
        step_index: int | None = None,
        comment: str = "",
    ) -> None:
        """Record an outcome of a trajectory, at any time; it was true at `observed_at` (now unless given)."""
        now = self._now()
        outcome = Outcome(
            workspace=self._header.workspace,
            trajectory_id=trajectory_id,
            signal=signal,
            value=float(value),
            source=source,
            checker_version=checker_version,
            step_index=step_index,
            observed_at=observed_at or now,
            arrived_at=now,
            comment=comment,
        )
        self.record(outcomes=[outcome])

    def record(self, trajectories: Sequence[Trajectory] = (), outcomes: Sequence[Outcome] = ()) -> None:
        """Record complete trajectories and outcomes, all on disk on return at the cost of one flush.

        They are taken as they are: agent, source and `arrived_at` are their own.
        """
        redactors = [Redactor() for _ in (*trajectories, *outcomes)]
        events: list[Event] = []
        for redactor, record in zip(redactors, (*trajectories, *outcomes), strict=True):
            of_workspace(record, self._header.workspace)
            if isinstance(record, Trajectory):
                events.append(Whole(redactor.trajectory(checked(record))))
            else:
                events.append(Told(redactor.outcome(checked(record))))
        self._write(events)
        for redactor in redactors:
            self.redactions += redactor.counts
        self._rotate()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One flush for all calls within the block: they are durable when the block ends, not one by one."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            with self._mine():
                if self._journal:
                    self._journal.sync()

    def close(self) -> None:
        """Give up the journal, so that it can be settled away; the next call begins another one."""
        with self._mine():
            if self._open:
                raise FlywheelError(f"trajectories are being recorded still: {', '.join(sorted(self._open))}")
            if self._journal:
                self._journal.close()
                self._journal = None

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """The lock, and a journal of this process: after a fork, the parent's are the parent's."""
        if self._process != os.getpid():
            self._process, self._lock, self._open, self._batches = os.getpid(), threading.RLock(), set(), 0
            if self._journal:
                self._journal.close()
                self._journal = None
        with self._lock:
            yield

    def _write(self, events: Sequence[Event]) -> None:
        with self._mine():
            self._journal = self._journal or Journal(self._folder)
            self._journal.write(events, sync=not self._batches)

    def _rotate(self) -> None:
        with self._mine():
            done = self._journal and (self._journal.size > ROTATE or self._journal.broken)
            if done and not self._open and not self._batches:
                self.close()

    def _now(self) -> datetime:
        now = self._clock()
        if now.tzinfo is None:
            raise FlywheelError("the recorder's clock must give times with a time zone, such as datetime.now(UTC)")
        return now.astimezone(UTC)
