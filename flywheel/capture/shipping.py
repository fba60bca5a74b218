"""Shipping: what ended in the journals of a spool is sent to a server, and leaves the spool once it is there."""

from __future__ import annotations

import fcntl
import gzip
import http.client
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import quote, urlsplit

import msgspec

from flywheel import artifacts
from flywheel.capture import journal, workspaces
from flywheel.capture.journal import Began, Ended, Said, Told, Whole
from flywheel.schema import FlywheelError, Outcome, Step, Trajectory, canonical_json
from flywheel.settings import Home

BODY = 4 * 2**20  # bytes that are sent at once, unless one record has more
RECORDS = 1_000  # and records
CHUNK = 8 * 2**20  # bytes of a journal that are read at once
TIMEOUT = 60.0  # seconds that the server may take to answer
RETRIED = {408, 425, 429, 500, 502, 503, 504}

Kind = Literal["trajectories", "outcomes"]


class Unreachable(FlywheelError):
    """The server cannot take it now. Try again, after `retry_after` seconds where it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(FlywheelError):
    """The server will not take it, however often it is tried: somebody must look. The spool keeps it."""


class Shipped(msgspec.Struct, kw_only=True):
    """What was sent and acknowledged: `quarantined` are those that the server set aside, and keeps there."""

    trajectories: int = 0
    outcomes: int = 0
    quarantined: int = 0
    journals_removed: int = 0


class Server:
    """A server's routes for what comes into one workspace."""

    def __init__(self, url: str, workspace: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise FlywheelError(f"{url!r} is no server's address; write it as https://flywheel.example.org")
        self.url, self.workspace, self._token = url.rstrip("/"), workspace, token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def post(self, kind: Kind, lines: list[bytes]) -> list[dict[str, Any]]:
        """Send records; returns when the server has them on disk, with those that it set aside.

        Raises:
            Unreachable: when it did not answer, or asks to come again.
            Refused: when it answered no.
        """
        body = gzip.compress(b"\n".join(lines), 1)
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        path = f"/api/v1/workspaces/{quote(self.workspace, safe='')}/{kind}"
        request = urllib.request.Request(self.url + path, body, headers, method="POST")  # noqa: S310  # checked above
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return msgspec.json.decode(answer.read())["quarantined"]
        except urllib.error.HTTPError as error:
            with error:
                said = f"{self.url} answered {error.code}: {_said(error)}"
                if error.code in RETRIED:
                    raise Unreachable(said, _retry_after(error)) from None
            raise Refused(said) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url} cannot be reached: {getattr(error, 'reason', error)}") from error
        except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise Refused(f"{self.url} answers as no flywheel server does; is the address right?") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would make a GET of what is sent: it is an answer like another, and no."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Tail:
    """A journal that is read as it grows: what ended in it, in order, and what goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: dict[str, tuple[Trajectory, list[Step]]] = {}
        self.ended: set[str] = set()
        self.torn: list[bytes] = []
        self._at = 0

    def records(self, *, dead: bool) -> Iterator[Trajectory | Outcome]:
        """What ended since it was last asked; of a dead writer's, all there is."""
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:
                # What a disk did not take was cut off again: it is read anew, and known by its ids.
                self._at, self.open = 0, {}
            file.seek(self._at)
            while lines := file.readlines(CHUNK):
                for line in lines:
                    if not line.endswith(b"\n") and not dead:
                        return
                    self._at += len(line)
                    if line.strip() and not journal.erased(line):
                        yield from self._event(line)

    def left(self) -> Iterator[Trajectory]:
        """What a dead writer left without an end, as it stands."""
        for trajectory, steps in self.open.values():
            yield msgspec.structs.replace(trajectory, end_state="partial", steps=tuple(steps))

    def _event(self, line: bytes) -> Iterator[Trajectory | Outcome]:
        try:
            event = journal.DECODER.decode(line)
        except journal.UNREADABLE:
            self.torn.append(line)
            return
        if isinstance(event, Whole):
            self.ended.add(event.trajectory.id)
            yield event.trajectory
        elif isinstance(event, Told):
            yield event.outcome
        elif isinstance(event, Began):
            self.open[event.trajectory.id] = (event.trajectory, [])
        elif isinstance(event, Said | Ended) and event.id in self.open:
            trajectory, steps = self.open[event.id]
            about = event.about | ({"error": event.error} if isinstance(event, Ended) and event.error else {})
            if about:
                metadata = canonical_json({**msgspec.json.decode(trajectory.metadata), **about})
                trajectory = msgspec.structs.replace(trajectory, metadata=metadata)
            if isinstance(event, Said):
                steps.append(event.step)
                self.open[event.id] = (msgspec.structs.replace(trajectory, arrived_at=event.at), steps)
                return
            del self.open[event.id]
            self.ended.add(event.id)
            yield msgspec.structs.replace(trajectory, end_state=event.state, arrived_at=event.at, steps=tuple(steps))
        else:
            self.torn.append(line)


class Shipper:
    """Sends what ended in the journals of one workspace of a spool; one at a time does (`alone`).

    Nothing leaves the spool before the server has acknowledged it. What was sent and not acknowledged, or whose
    acknowledgement was lost with this process, is sent again: the server knows it by its id.
    """

    def __init__(self, spool: Home, server: Server) -> None:
        self._folder = spool.journals / server.workspace
        self._server = server
        self._tails: dict[Path, Tail] = {}
        self._unsent: dict[Kind, list[bytes]] = {"trajectories": [], "outcomes": []}
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
        for trajectory in left.values():
            self._unsent["trajectories"].append(msgspec.json.encode(trajectory))
        self._flush(shipped)
        for tail in dead:
            self._set_aside(tail)
            tail.path.unlink()
            shipped.journals_removed += 1
            del self._tails[tail.path]
        return shipped

    def _add(self, record: Trajectory | Outcome, shipped: Shipped) -> None:
        if isinstance(record, Trajectory):
            kind, line = "trajectories", msgspec.json.encode(record)
        else:
            fields = msgspec.to_builtins(record)
            kind, line = "outcomes", msgspec.json.encode({k: v for k, v in fields.items() if k not in _NOT_TOLD})
        # It is counted among what waits before anything can go wrong: what is read is never read again.
        self._unsent[kind].append(line)
        self._bytes += len(line)
        if self._bytes > BODY or len(self._unsent[kind]) >= RECORDS:
            self._flush(shipped)

    def _flush(self, shipped: Shipped) -> None:
        for kind, lines in self._unsent.items():
            if lines:
                refused = self._server.post(kind, lines)
                setattr(shipped, kind, getattr(shipped, kind) + len(lines) - len(refused))
                shipped.quarantined += len(refused)
                lines.clear()
        self._bytes = 0

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


def _said(error: urllib.error.HTTPError) -> str:
    """What a server said of an error, shortly."""
    try:
        return msgspec.json.decode(error.read(10_000))["error"]["message"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError, http.client.HTTPException, UnicodeDecodeError):
        return str(error.reason)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds that a server asks to wait, by RFC 9110: as a number, or as a date."""
    text = error.headers.get("Retry-After", "")
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
