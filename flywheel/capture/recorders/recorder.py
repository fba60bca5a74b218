"""The recorder: what an agent does, on disk when each call returns."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.capture import workspaces
from flywheel.capture.journals.journal import Event, Told, Whole
from flywheel.capture.journals.writer import Writer
from flywheel.capture.recorders.opening import Opening
from flywheel.capture.recorders.recording import Recording
from flywheel.capture.redaction import boundary
from flywheel.capture.redaction.boundary import Boundary
from flywheel.capture.redaction.redact import Redactor, redactor
from flywheel.capture.validity import checked, json_text, of_workspace
from flywheel.schema import FlywheelError, Outcome, Trajectory
from flywheel.settings import Home

if TYPE_CHECKING:
    from flywheel.capture.recorders.remote import RemoteRecorder


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Recorder:
    """Records trajectories and outcomes of one agent into a workspace.

    Each call returns when what it was given is on disk (`batch` and `record` take many at the cost of one wait).
    Any number of processes may write at the same time; threads and tasks may share a recorder, and share flushes.
    Secrets are replaced before anything is written; `redactions` counts them by kind.

        recorder = Recorder(home(), "support", agent="desk-bot", agent_version="7")
        with recorder.trajectory(task_id="ticket-812", task_group="refunds", task_type="desk") as t:
            t.step(role="user", content="Where is my refund?")
            t.step(role="assistant", content="On its way.")
            t.outcome("resolved", 1.0, source="checker")
        recorder.outcome(t.id, "reopened", 1.0, source="ticketing")   # days later

    In asyncio, `async with recorder.trajectory(...) as t`, and `await t.astep(...)`. Before a function, each call is a
    trajectory, and `capture.current()` its recording:

        @recorder.trajectory(task_id=lambda ticket: ticket.id, task_type="desk")
        def answer(ticket): ...
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
        self._home, self._workspace, self._clock = home, workspace, clock
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
            tools=json_text(list(tools), "tools"),
            end_state="partial",
            arrived_at=datetime.min.replace(tzinfo=UTC),
            source=source,
            steps=(),
        )
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._open: dict[str, Writer] = {}
        self._writer: Writer | None = None
        # All writers that are not closed: those of trajectories that go on, and the one that what begins now goes to.
        self._writers: set[Writer] = set()
        self._batches = 0
        self._pending: list[Future[str]] = []
        weakref.finalize(self, _give_up, self._writers)

    @staticmethod
    def to(url: str, workspace: str, *, spool: Path | str, agent: str, **about: Any) -> RemoteRecorder:
        """A recorder for an agent that runs elsewhere than the server at `url`: see `RemoteRecorder`.

        `spool` is a folder of this machine in which all lies until the server has it.
        """
        from flywheel.capture.recorders.remote import RemoteRecorder

        return RemoteRecorder(url, workspace, spool=spool, agent=agent, **about)

    def trajectory(
        self,
        *,
        task_id: str | Callable[..., str],
        task_group: str = "",
        task_type: str = "",
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Opening:
        """A trajectory to record, by `with`, by `async with`, or before a function; `Opening` says how it ends.

        `task_group` is the task itself unless given. A trajectory whose id is already stored is not stored again.
        """
        return Opening(
            self, task_id=task_id, task_group=task_group, task_type=task_type, id=id, metadata=dict(metadata or {})
        )

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
        told = self._outcome(
            trajectory_id,
            signal,
            value,
            source=source,
            checker_version=checker_version,
            observed_at=observed_at,
            step_index=step_index,
            comment=comment,
        )
        self.record(outcomes=[told])

    async def aoutcome(self, trajectory_id: str, signal: str, value: float, **fields: Any) -> None:
        """As `outcome`, for a task of asyncio; fields as there."""
        await self.arecord(outcomes=[self._outcome(trajectory_id, signal, value, **fields)])

    def record(self, trajectories: Sequence[Trajectory] = (), outcomes: Sequence[Outcome] = ()) -> None:
        """Record complete trajectories and outcomes, all on disk on return at the cost of one flush.

        They are taken as they are: agent, source and `arrived_at` are their own.
        """
        self.wait(self._recorded(trajectories, outcomes))

    async def arecord(self, trajectories: Sequence[Trajectory] = (), outcomes: Sequence[Outcome] = ()) -> None:
        """As `record`, for a task of asyncio."""
        await asyncio.wrap_future(self._recorded(trajectories, outcomes))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One wait for all calls within the block: they are durable when the block ends, not one by one.

        Calls of tasks (`astep` and the like) wait for themselves all the same.
        """
        with self._mine():
            self._batches += 1
        try:
            yield
        finally:
            with self._mine():
                self._batches -= 1
                pending = self._pending if not self._batches else []
                if pending:
                    self._pending = []
            for written in pending:
                written.result()

    def close(self) -> None:
        """Give up the journal, so that it can be settled away; the next call begins another one."""
        with self._mine():
            if self._open:
                raise FlywheelError(f"trajectories are being recorded still: {', '.join(sorted(self._open))}")
            writers, self._writer = list(self._writers), None
            self._writers.clear()
        for writer in writers:
            writer.close()

    def begun(
        self, task_id: str, task_group: str, task_type: str, id: str | None, metadata: Mapping[str, Any]
    ) -> Recording:
        """A recording that has not written anything yet; `leave` it in the end."""
        began = self.now()
        header = msgspec.structs.replace(
            self._header,
            id=id or uuid.uuid4().hex,
            task_id=task_id,
            task_group=task_group or task_id,
            task_type=task_type,
            started_at=began,
            arrived_at=began,
            metadata=json_text(dict(metadata), "metadata"),
        )
        with self._mine():
            writer = self._writing()
            recording = Recording(self, header, writer)
            if recording.id in self._open:
                raise FlywheelError(f"trajectory {recording.id} is being recorded already; give each its own id")
            self._open[recording.id] = writer
            return recording

    def leave(self, recording: Recording) -> None:
        """Take leave of a recording: nothing will be added to it."""
        with self._mine():
            self._open.pop(recording.id, None)
            self.redactions += recording.redactor.counts
            self._retire()

    def put(self, writer: Writer, events: Sequence[Event], file: str | None = None) -> Future[str]:
        """Have events written, to that journal alone where one is named."""
        return writer.put(events, into=file)

    def old(self, writer: Writer) -> bool:
        """Whether what begins now goes to another journal than this writer's."""
        return writer.old

    def wait(self, written: Future[str]) -> None:
        """Return when it is on disk; within a batch, at once."""
        with self._mine():
            if self._batches:
                self._pending.append(written)
                return
        written.result()

    def redactor(self) -> Redactor:
        """A redactor of what comes into this workspace."""
        return redactor(self._home, self._workspace)

    def boundary(self, source: str) -> Boundary:
        """What is kept of the prompts of a source of this workspace."""
        return boundary.of(self._home, self._workspace, source)

    def now(self) -> datetime:
        """The clock's time, in UTC."""
        now = self._clock()
        if now.tzinfo is None:
            raise FlywheelError("the recorder's clock must give times with a time zone, such as datetime.now(UTC)")
        return now.astimezone(UTC)

    def _outcome(
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
    ) -> Outcome:
        now = self.now()
        return Outcome(
            workspace=self._workspace,
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

    def _recorded(self, trajectories: Sequence[Trajectory], outcomes: Sequence[Outcome]) -> Future[str]:
        redactors: list[Redactor] = []
        events: list[Event] = []
        for record in (*trajectories, *outcomes):
            of_workspace(record, self._workspace)
            redactors.append(self.redactor())
            if isinstance(record, Trajectory):
                kept = self.boundary(record.source).trajectory(checked(record))
                events.append(Whole(redactors[-1].trajectory(kept)))
            else:
                events.append(Told(redactors[-1].outcome(checked(record))))
        with self._mine():
            written = self.put(self._writing(), events)
            for one in redactors:
                self.redactions += one.counts
            self._retire()
        return written

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """The lock, and writers of this process: after a fork, the parent's are the parent's."""
        if self._process != os.getpid():
            self._process, self._lock, self._batches, self._pending = os.getpid(), threading.RLock(), 0, []
            self._open, self._writer = {}, None
            self._writers.clear()
        with self._lock:
            yield

    def _writing(self) -> Writer:
        """The writer of what begins now."""
        if self._writer is None or self.old(self._writer):
            self._writer = Writer(self._home, self._workspace, rotating=False)
            self._writers.add(self._writer)
        return self._writer

    def _retire(self) -> None:
        """Close the writers that are old and in which nothing goes on, so that they can be settled away."""
        if self._batches:
            return
        for writer in self._writers - set(self._open.values()):
            if writer is not self._writer or self.old(writer):
                self._writers.discard(writer)
                if writer is self._writer:
                    self._writer = None
                # It writes what waits first: nobody here needs to.
                threading.Thread(target=writer.close, daemon=True).start()


def _give_up(writers: set[Writer]) -> None:
    """Close what is open when nobody has the recorder any more."""
    for writer in writers:
        with suppress(RuntimeError):  # it may be one of their own threads that finds out
            writer.close()
