"""The recorder: what an agent does, on disk when each call returns."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import msgspec

from flywheel.capture import workspaces
from flywheel.capture.journals.events import Event, Told, Whole
from flywheel.capture.journals.writer import Writer
from flywheel.capture.recorders import batches
from flywheel.capture.recorders.opening import Opening
from flywheel.capture.recorders.recording import Recording
from flywheel.capture.recorders.writers import Writers
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


class Fact(TypedDict, total=False):
    """What may be said of an outcome beside its signal and value; it was true at `observed_at`, now unless given."""

    source: str
    checker_version: str
    observed_at: datetime | None
    step_index: int | None
    comment: str


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
        self._writers = Writers(home, workspace)

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

    def outcome(self, trajectory_id: str, signal: str, value: float, **fact: Unpack[Fact]) -> None:
        """Record an outcome of a trajectory, at any time."""
        self.record(outcomes=[self._outcome(trajectory_id, signal, value, fact)])

    async def aoutcome(self, trajectory_id: str, signal: str, value: float, **fact: Unpack[Fact]) -> None:
        """As `outcome`, for a task of asyncio."""
        await self.arecord(outcomes=[self._outcome(trajectory_id, signal, value, fact)])

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
        """One wait for all calls of this thread within the block: they are durable when it ends, not one by one.

        Calls of tasks (`astep` and the like) wait for themselves all the same, and so do those of other threads.
        """
        with batches.batch(self):
            yield

    def close(self) -> None:
        """Give up the journal, so that it can be settled away; the next call begins another one."""
        self._writers.close()

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
        with self._writers.writing() as writer:
            recording = Recording(self, header, writer)
            self._writers.begin(recording.id, writer)
            return recording

    def leave(self, recording: Recording) -> None:
        """Take leave of a recording: nothing will be added to it."""
        with self._writers.held():
            self.redactions += recording.redactor.counts
            self._writers.end(recording.id)

    def put(self, writer: Writer, events: Sequence[Event], file: str | None = None) -> Future[str]:
        """Have events written, to that journal alone where one is named."""
        return writer.put(events, into=file)

    def wait(self, written: Future[str]) -> None:
        """Return when it is on disk; within a batch, at once."""
        if not batches.takes(self, written):
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

    def _outcome(self, trajectory_id: str, signal: str, value: float, fact: Fact) -> Outcome:
        now = self.now()
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise FlywheelError("this outcome cannot be recorded: value is no number; write a success as 1") from error
        return Outcome(
            workspace=self._workspace,
            trajectory_id=trajectory_id,
            signal=signal,
            value=number,
            arrived_at=now,
            **{"source": "recorder", **fact, "observed_at": fact.get("observed_at") or now},
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
        with self._writers.writing() as writer:
            written = self.put(writer, events)
            for one in redactors:
                self.redactions += one.counts
        return written
