"""Shipping: what ended in the journals of a spool is sent to a server, and leaves the spool once it is there."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.journals import journal
from flywheel.capture.recorders.sending import Kind, Server, Unreachable
from flywheel.capture.recorders.tail import Tail
from flywheel.schema import FlywheelError, Outcome, Trajectory
from flywheel.settings import Home

BODY = 4 * 2**20  # bytes that are sent at once, unless one record has more
RECORDS = 1_000  # and records


class Shipped(msgspec.Struct, kw_only=True):
    """What was sent and acknowledged: `quarantined` are those that the server set aside, and keeps there."""

    trajectories: int = 0
    outcomes: int = 0
    quarantined: int = 0
    journals_removed: int = 0


class Shipper:
    """Sends what ended in the journals of one workspace of a spool; one at a time does (`alone`).

    Nothing leaves the spool before the server has acknowledged it. What was sent and not acknowledged, or whose
    acknowledgement was lost with this process, is sent again: the server knows it by its id. What was forgotten in
    the spool is not sent any more, however much of it was read before.
    """

    def __init__(self, spool: Home, server: Server) -> None:
        self._spool, self._folder = spool, spool.journals / server.workspace
        self._server = server
        self._tails: dict[Path, Tail] = {}
        # Each with the id of the trajectory that it is about.
        self._unsent: dict[Kind, list[tuple[str, bytes]]] = {"trajectories": [], "outcomes": []}
        self._bytes = 0

    def ship(self) -> Shipped:
        """Send all that has ended by now, and remove the journals of dead writers of which nothing is left to send.

        Raises:
            Unreachable, Refused: what was not acknowledged stays, and is sent with the next call.
        """
        shipped = Shipped()
        self._flush(shipped)
        paths = journal.paths(self._folder)
        self._tails = {path: self._tails.get(path) or Tail(path) for path in paths}
        dead: list[Tail] = []
        for path, tail in self._tails.items():
            with journal.claimed(path) as gone:
                pass
            if gone:
                dead.append(tail)
            for record in tail.records(dead=gone):
                self._add(record, shipped)
        known = {id for tail in self._tails.values() for id in (*tail.ended, *(tail.open if tail not in dead else ()))}
        left: dict[str, Trajectory] = {}
        for trajectory in (t for tail in dead for t in tail.left() if t.id not in known):
            if trajectory.id not in left or len(trajectory.steps) > len(left[trajectory.id].steps):
                left[trajectory.id] = trajectory
        for tail in dead:
            tail.ended.update(tail.open)
            tail.open.clear()
        # All of them wait before any is sent: nothing of a dead writer's journal is read again.
        self._unsent["trajectories"] += [(id, msgspec.json.encode(trajectory)) for id, trajectory in left.items()]
        self._flush(shipped)
        for tail in dead:
            self._set_aside(tail)
            tail.path.unlink()
            shipped.journals_removed += 1
            del self._tails[tail.path]
        return shipped

    def _add(self, record: Trajectory | Outcome, shipped: Shipped) -> None:
        if isinstance(record, Trajectory):
            kind, id, line = "trajectories", record.id, msgspec.json.encode(record)
        else:
            fields = msgspec.to_builtins(record)
            kind, id = "outcomes", record.trajectory_id
            line = msgspec.json.encode({k: v for k, v in fields.items() if k not in _NOT_TOLD})
        # It is counted among what waits before anything can go wrong: what is read is never read again.
        self._unsent[kind].append((id, line))
        self._bytes += len(line)
        if self._bytes > BODY or len(self._unsent[kind]) >= RECORDS:
            self._flush(shipped)

    def _flush(self, shipped: Shipped) -> None:
        gone = self._erased({id for unsent in self._unsent.values() for id, _ in unsent})
        for kind, unsent in self._unsent.items():
            while unsent:
                sizes = accumulate(len(line) for _, line in unsent[:RECORDS])
                count = max(1, sum(size <= BODY for size in sizes))
                if lines := [line for id, line in unsent[:count] if id not in gone]:
                    refused = self._server.post(kind, lines)
                    setattr(shipped, kind, getattr(shipped, kind) + len(lines) - len(refused))
                    shipped.quarantined += len(refused)
                del unsent[:count]
        self._bytes = 0

    def _erased(self, ids: set[str]) -> set[str]:
        """Those of the trajectories that were forgotten here."""
        if not self._spool.erasures.exists():
            return set()
        from flywheel.capture.erasing.erasure import Tombstones, records  # brings DuckDB along, which no agent needs

        return Tombstones(records(self._spool, self._server.workspace)).named(ids)

    def _set_aside(self, tail: Tail) -> None:
        """Keep the lines that are no events, such as the torn tail of a crash, beside the journal that goes."""
        if tail.torn:
            artifacts.write_bytes(tail.path.with_suffix(".torn"), b"".join(tail.torn))


_NOT_TOLD = {"workspace", "arrived_at"}


@contextmanager
def alone(spool: Home, workspace: str) -> Iterator[bool]:
    """Whether nobody else ships what a spool has of a workspace; nobody begins to within the block."""
    folder = spool.journals / workspace
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".shipping").open("ab") as lock:
        _LOCKS.add(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            _LOCKS.discard(lock)


# After a fork these are the parent's alone: a child that kept them open would hold them when the parent is gone.
_LOCKS: set[BinaryIO] = set()


def _leave() -> None:
    for lock in _LOCKS:
        lock.close()
    _LOCKS.clear()


os.register_at_fork(after_in_child=_leave)


def waiting(spool: Home, workspace: str) -> int:
    """Bytes in the journals of a spool."""
    total = 0
    for path in journal.paths(spool.journals / workspace):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # it was shipped just now
            continue
    return total


def ship(folder: Path, url: str, token: str | None) -> dict[str, Shipped]:
    """Send all that has ended in a spool, once, by workspace.

    Raises:
        FlywheelError: when the folder is no spool, or another process is shipping it.
        Unreachable, Refused: when the server cannot or will not take it.
    """
    spool = Home(folder)
    names = workspaces.names(spool)
    if not names:
        raise FlywheelError(f"{folder} is no spool: a recorder makes one (Recorder.to(..., spool=FOLDER))")
    shipped: dict[str, Shipped] = {}
    for name in names:
        with alone(spool, name) as mine:
            if not mine:
                raise FlywheelError(f"a living recorder ships {folder} itself; this is for what dead ones left")
            shipped[name] = Shipper(spool, Server(url, name, token)).ship()
    return shipped


def ship_for(
    folder: Path, url: str, token: str | None, seconds: float, told: Callable[[str], None]
) -> dict[str, Shipped]:
    """As `ship`, trying a server that is away for so many seconds; `told` hears of it."""
    until, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            return ship(folder, url, token)
        except Unreachable as error:
            wait = max(error.retry_after or 0.0, random.uniform(pause / 2, pause))
            if time.monotonic() + wait > until:
                raise
            told(f"{error}; it is tried again in {wait:.0f} s")
            time.sleep(wait)
            pause = min(60.0, 2 * pause)
