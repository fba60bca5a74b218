"""Gathered: the exchanges and spans of all journals, and what of their threads and traces is over and to be stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from flywheel.capture.importers import trace
from flywheel.capture.importers.evaluations import Evaluation
from flywheel.capture.importers.trace import Trace
from flywheel.capture.journals.events import Closed, Spanned
from flywheel.capture.journals.held import Held, HeldSpan, Place
from flywheel.capture.redaction import boundary
from flywheel.capture.settling import joining, trajectories
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.capture.settling.joining import Answer, Thread
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome, Trajectory, stable_id

# How long a thread is quiet before it is taken to be over, unless somebody says so.
IDLE = timedelta(minutes=15)

# What a malformed message raises.
UNMADE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, FlywheelError)


class Bad(msgspec.Struct, frozen=True):
    """A line of which no trajectory can be made, and why."""

    place: Place
    error: str


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What of all threads and traces is to be stored now, and what is to be remembered of it.

    `stored` names the trajectory that has an answer, for all answers that the journals hold; empty where there is
    none, since it could not be made (then `bad` tells why) or a span is no call. `outcomes` are what evaluators gave
    spans of traces. `waiting` are the threads that go on, and `held` the journals that hold something of them.
    """

    rows: list[Trajectory]
    outcomes: list[Outcome]
    bad: list[Bad]
    stored: dict[str, str]
    waiting: set[str]
    held: set[str]


class Gathering:
    """Threads and traces of a workspace as of a moment.

    `remembered` is `Gathered.stored` of the settle before; what a settle stored that was killed before it could be
    remembered is found among what `arrivals` has. `taken` are ids that other trajectories have or will have.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        remembered: Mapping[str, str],
        *,
        taken: Collection[str],
        closed: Iterable[Closed],
        now: datetime,
        idle: timedelta,
    ) -> None:
        self._arrivals, self._workspace = arrivals, arrivals.workspace
        self._remembered, self._taken = remembered, set(taken)
        self._now, self._idle = now, idle
        self._closed: dict[str, datetime] = {}
        for event in closed:
            if event.at <= now:
                self._closed[event.thread] = max(event.at, self._closed.get(event.thread, event.at))
        self._found = Gathered(rows=[], outcomes=[], bad=[], stored={}, waiting=set(), held=set())
        # What was stored before of traces that are evaluated later: metadata by trace and id.
        self._earlier: dict[str, dict[str, dict[str, Any]]] = {}

    def gather(self, exchanges: Iterable[Held], spans: Iterable[HeldSpan]) -> Gathered:
        """What is to be stored of exchanges and spans."""
        threads: list[Thread] = []
        for thread in joining.threads(exchanges):
            names = {thread.id, *(node.held.thread for node in thread.nodes)}
            begun = max(node.held.started_at for node in thread.nodes)
            ids = _answers(thread)
            if not self._over(names, thread.quiet_since, begun):
                self._wait(thread.id, (node.held.place for node in thread.nodes), ids)
            elif not self._all_stored(ids):
                threads.append(thread)
        traces: list[tuple[list[HeldSpan], Trace | Exception]] = []
        by_trace = _by_trace(spans)
        for id, parts in by_trace.items():
            last = max(part.at for part in parts)
            ids = [_key(part) for part in parts]
            if not self._over({id}, last, last):
                self._wait(id, (part.place for part in parts), ids)
            elif not self._all_stored(ids):
                traces.append((parts, _trace(parts)))
        self._found.stored.update({k: v for k, v in self._remembered.items() if k.partition(":")[0] in by_trace})
        self._recall(threads, [whole for _, whole in traces if isinstance(whole, Trace)])
        for thread in threads:
            self._store_thread(thread)
        late = [w.id for _, w in traces if isinstance(w, Trace) and any(not one.call for one in w.evaluations)]
        self._earlier = self._arrivals.of_traces(late)
        for parts, whole in traces:
            self._store_trace(parts, whole)
        return self._found

    def _over(self, names: Iterable[str], quiet_since: datetime, begun: datetime) -> bool:
        """Whether a thread is over: quiet for long enough, or closed after its last call had begun."""
        if quiet_since > self._now:
            return False
        closed = any(self._closed[name] >= begun for name in names if name in self._closed)
        return closed or self._now - quiet_since >= self._idle

    def _wait(self, id: str, places: Iterable[Place], answers: Iterable[str]) -> None:
        self._found.waiting.add(id)
        self._found.held.update(place.path.name for place in places)
        self._all_stored(answers)

    def _all_stored(self, answers: Iterable[str]) -> bool:
        """Whether it is remembered that all answers were stored; those that were stay remembered."""
        answers = list(answers)
        self._found.stored.update({id: self._remembered[id] for id in answers if id in self._remembered})
        return all(id in self._found.stored for id in answers)

    def _recall(self, threads: Sequence[Thread], traces: Sequence[Trace]) -> None:
        """Find what was stored and not remembered: by any id that it can have."""
        ids: list[str] = []
        for thread in threads:
            ids += [thread.id, *(node.held.thread for node in thread.nodes)]
            ids += [stable_id(thread.id, answer) for answer in _answers(thread)]
        for whole in traces:
            answers = [id for found in whole.conversations for id in trajectories.calls_of(whole, found)]
            ids += [whole.id, *(stable_id(whole.id, answer) for answer in answers)]
        for id, metadata in self._arrivals.stored(ids).items():
            self._taken.add(id)
            self._found.stored.update(dict.fromkeys(_own(metadata), id))

    def _store_thread(self, thread: Thread) -> None:
        rows: list[Trajectory] = []
        try:
            rows = trajectories.of_thread(thread, self._workspace, self._found.stored, self._taken)
        except UNMADE as error:
            self._found.bad.extend(Bad(node.held.place, _why(error)) for node in thread.nodes)
        self._take(rows)
        for id in _answers(thread):
            self._found.stored.setdefault(id, "")
        for node in thread.nodes:
            node.drop()

    def _store_trace(self, parts: list[HeldSpan], whole: Trace | Exception) -> None:
        rows: list[Trajectory] = []
        try:
            if isinstance(whole, Exception):
                raise whole
            at = max(part.at for part in parts)
            rows = trajectories.of_trace(whole, at, self._workspace, self._found.stored, self._taken)
            bad = [f"span {name}: {error}" for name, error in whole.bad]
            self._take(rows)
            bad += self._hear(whole, at)
            if whole.models and not whole.conversations and not bad:
                bad = ["its calls of a model tell of no messages: was the capture of content switched on?"]
        except UNMADE as error:
            bad = [_why(error)]
        first = parts[0]
        self._found.bad.extend(Bad(first.place, f"trace {first.trace}: {error}") for error in bad)
        self._found.stored.update(dict.fromkeys(map(_key, parts), ""))

    def _hear(self, whole: Trace, at: datetime) -> list[str]:
        """Take the evaluations of a trace as outcomes of what they are about; why others are none."""
        unknown = []
        for one in whole.evaluations:
            id = self._found.stored.get(f"{whole.id}:{one.call}") if one.call else self._before(whole.id, one)
            if not id:
                unknown.append(f"the evaluation {one.name!r} is of span {one.span}, which no trajectory here has")
                continue
            outcome = Outcome(
                workspace=self._workspace,
                trajectory_id=id,
                signal=one.name,
                value=one.value,
                source="otlp",
                step_index=one.step,
                observed_at=one.at or at,
                arrived_at=at,
                comment=one.comment,
            )
            self._found.outcomes.append(checked(outcome))
        return unknown

    def _before(self, trace: str, one: Evaluation) -> str | None:
        """The trajectory, of those that were stored of a trace, that has a span; the longest where it is no call."""

        def rank(id: str) -> tuple[bool, bool, bool, int, str]:
            about = self._earlier[trace][id]
            spans = about.get("spans") or []
            own = f"{trace}:{one.span}" in (about.get("exchanges") or [])
            return own, one.span in spans, id == trace, len(spans), id

        return max(self._earlier.get(trace, ()), key=rank, default=None)

    def _take(self, rows: Iterable[Trajectory]) -> None:
        for row in rows:
            kept = boundary.of(self._arrivals.home, self._workspace, row.source).trajectory(row)
            self._found.rows.append(kept)
            self._found.stored.update(dict.fromkeys(msgspec.json.decode(row.metadata)["exchanges"], row.id))
            self._taken.add(row.id)


def _own(metadata: str) -> list[str]:
    """The answers that a stored trajectory has as its own; of one that was not made here it may say anything."""
    about = msgspec.json.decode(metadata)
    told = about.get("exchanges") if isinstance(about, dict) else None
    return [id for id in told if isinstance(id, str)] if isinstance(told, list) else []


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError | FlywheelError) else f"malformed: {error!r}"


def _answers(thread: Thread) -> list[str]:
    """The ids of all answers of a thread, and of calls that got none."""
    return [Answer(node, choice).id for node in thread.nodes for choice in range(max(1, len(node.held.answered)))]


def _by_trace(spans: Iterable[HeldSpan]) -> dict[str, list[HeldSpan]]:
    traces: dict[str, list[HeldSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace, []).append(span)
    return traces


def _trace(parts: Iterable[HeldSpan]) -> Trace | Exception:
    events = [part.place.event() for part in parts]
    try:
        return trace.of(event.span for event in events if isinstance(event, Spanned))
    except UNMADE as error:
        return error


def _key(span: HeldSpan) -> str:
    """What names a span, or an event that was logged apart from it: not what names its answer."""
    told = f"{span.trace}:{span.id}@{span.logged_at.isoformat() if span.logged_at else ''}"
    return f"{told}/{span.evaluation}" if span.evaluation else told
