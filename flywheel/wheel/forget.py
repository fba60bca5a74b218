"""Forgetting a person or an episode: from captures to the champion, with a record, and brought to its end by anyone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.erasing import forget as captures
from flywheel.capture.erasing.erasure import Erasure, Tombstones, records, save, unfinished
from flywheel.capture.erasing.traces import Asked, Traces, find
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.corpus import forget as corpus
from flywheel.release import descent
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.wheel import mentions


def look(home: Home, asked: Asked, workspace: str | None = None) -> dict[str, Traces]:
    """Where it stands, by workspace, with those alone in which something was found. Nothing is changed.

    Raises:
        FlywheelError: when nothing is asked for, a text is too short, a workspace is unknown, or nothing is stored
            under one of the ids.
    """
    if not asked.subjects and not asked.trajectories:
        raise FlywheelError("say whom or what to forget: --subject TEXT or --trajectory ID")
    found = {name: find(home, name, asked) for name in _workspaces(home, workspace)}
    missing = set(asked.trajectories) - {id for traces in found.values() for id in traces.ids}
    for id in sorted(missing):
        gone = [name for name in found if Tombstones(records(home, name)).by(id)]
        where = f"of workspace {gone[0]!r} was erased before" if gone else "is stored nowhere"
        raise FlywheelError(f"trajectory {id!r} {where}; nothing was changed")
    return {name: traces for name, traces in found.items() if traces}


def forget(
    home: Home, asked: Asked, workspace: str | None = None, *, because: str = "", now: datetime | None = None
) -> list[Erasure]:
    """Erase whom it is asked, one record a workspace; an erasure that was begun before is brought to its end first.

    Killed at any moment, what is begun is brought to its end by the next call of this or of `finish`.

    Raises:
        FlywheelError: as `look`, or when the reason, which stays in the record, has one of the texts.
    """
    now = now or datetime.now(UTC)
    if asked.pattern and re.search(asked.pattern, because):
        raise FlywheelError("the reason stays in the record: write it without the texts that are to be forgotten")
    finish(home, now)
    known = Asked(trajectories=asked.trajectories)
    if known.trajectories or not asked.subjects:
        look(home, known, workspace)  # an id that is nowhere changes nothing
    done = []
    with _alone(home):
        for name in _workspaces(home, workspace):
            with Arrivals(home, name).locked():
                # Looked for once more: nothing can arrive now.
                traces = find(home, name, asked)
                if not traces:
                    continue
                record = captures.begin(home, name, asked, traces, now=now, because=because)
                captures.finish(home, record)
            done.append(_finished(home, record.id, now))
    return done


def finish(home: Home, now: datetime | None = None) -> list[Erasure]:
    """Bring to their end the erasures that somebody began and did not; mostly there are none."""
    if not unfinished(home):
        return []
    with _alone(home):
        return [_finished(home, record.id, now or datetime.now(UTC)) for record in unfinished(home)]


def _finished(home: Home, id: str, now: datetime) -> Erasure:
    """Every step finds what is left to do of it."""
    record = _record(home, id)
    if not record.captured:
        with Arrivals(home, record.workspace).locked():
            record = _record(home, id)
    corpus.purge(home, record)
    versions = corpus.renew(home, record)
    cleared = mentions.survey(home, record) if record.cleared is None else record.cleared
    record = save(home, msgspec.structs.replace(record, versions=versions, cleared=cleared))
    mentions.clear(home, record)
    marked = descent.trace(home, versions)
    descent.mark(home, record, marked)
    # What killed writers left anywhere may hold it, too.
    artifacts.sweep(home.root)
    record = msgspec.structs.replace(record, marked=marked, left=mentions.left(home, record))
    return captures.end(home, record, now)


def _record(home: Home, id: str) -> Erasure:
    return next(record for record in records(home) if record.id == id)


def _workspaces(home: Home, workspace: str | None) -> Sequence[str]:
    return workspaces.names(home) if workspace is None else [workspaces.require(home, workspace).name]


def _alone(home: Home) -> AbstractContextManager[object]:
    """One erasure at a time; whoever dies lets go."""
    return artifacts.held(home.erasures / ".lock")
