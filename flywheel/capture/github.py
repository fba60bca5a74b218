"""GitHub tells what became of pull requests: merged, closed, reopened, reverted, as outcomes of trajectories."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.keys import database
from flywheel.capture.redact import redactor
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome
from flywheel.settings import Home

SOURCE = "github"

# In the text of a pull request, or the message of a commit: what worked on it. Each on a line of its own, any number.
TRAILER = re.compile(r"^[ \t>*-]*Flywheel-Trajectory:[ \t]*(\S{1,512})[ \t]*\r?$", re.I | re.M)

# What GitHub's Revert button writes into the new pull request, and git into the message of a revert.
REVERTS = re.compile(r"\bReverts[ \t]+([\w.-]+/[\w.-]+)?#(\d+)", re.I)
REVERTS_COMMIT = re.compile(r"\bThis reverts commit ([0-9a-f]{7,64})", re.I)

PULL = re.compile(r"([\w.-]+/[\w.-]+)#(\d+)")


class Repository(msgspec.Struct, frozen=True):
    """Where it happened: `owner/name`, and the branch that pull requests are merged into."""

    full_name: str
    default_branch: str = ""


class PullRequest(msgspec.Struct, frozen=True):
    """A pull request, as far as it is read here."""

    number: int
    title: str | None = None
    body: str | None = None
    merged: bool | None = False
    merged_at: datetime | None = None
    closed_at: datetime | None = None
    updated_at: datetime | None = None
    merge_commit_sha: str | None = None


class PullRequestEvent(msgspec.Struct, frozen=True):
    """The payload of an event `pull_request`."""

    action: str
    pull_request: PullRequest
    repository: Repository


class Commit(msgspec.Struct, frozen=True):
    """A commit of a push."""

    id: str
    message: str
    timestamp: datetime


class PushEvent(msgspec.Struct, frozen=True):
    """The payload of an event `push`."""

    ref: str
    repository: Repository
    commits: list[Commit] = []


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery told: outcomes, redacted; or why there are none."""

    outcomes: list[Outcome] = []
    ignored: str = ""


class Links:
    """Which trajectories worked on which pull requests of a workspace, what was merged as what, and what reverts what.

    A pull request is named `owner/name#12`, and a commit that was pushed without one `owner/name@SHA`. A revert may
    come a year later: nothing here is ever forgotten but by hand.
    """

    def __init__(self, home: Home, workspace: str) -> None:
        self._path = home.intake / f"{workspace}.sqlite"

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with database(self._path) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS links (change TEXT, trajectory TEXT, UNIQUE (change, trajectory))"
            )
            connection.execute("CREATE TABLE IF NOT EXISTS merges (sha TEXT PRIMARY KEY, change TEXT)")
            connection.execute("CREATE TABLE IF NOT EXISTS reverts (revert TEXT, change TEXT, UNIQUE (revert, change))")
            yield connection

    def add(self, change: str, trajectories: Sequence[str]) -> None:
        """Link trajectories to a pull request; those that are linked stay so."""
        with self.opened() as connection:
            _link(connection, change, trajectories)

    def all(self) -> list[tuple[str, str]]:
        """Every (pull request or commit, trajectory), in order."""
        with self.opened() as connection:
            return connection.execute("SELECT change, trajectory FROM links ORDER BY change, trajectory").fetchall()


def pull_name(text: str) -> str:
    """The name of a pull request; GitHub does not tell upper from lower case in it.

    Raises:
        FlywheelError: when it is none.
    """
    if not PULL.fullmatch(text):
        raise FlywheelError(f"{text!r} is no pull request; write it as owner/repository#12")
    return text.lower()


def hear(home: Home, workspace: str, event: str, payload: Any, now: datetime) -> Heard:
    """What an event says of the trajectories of a workspace. The same event gives the same outcomes.

    Raises:
        FlywheelError: when the payload is not what GitHub sends.
    """
    try:
        if event == "ping":
            return Heard(ignored="ping")
        if event == "pull_request":
            told = msgspec.convert(payload, PullRequestEvent)
        elif event == "push":
            told = msgspec.convert(payload, PushEvent)
        else:
            return Heard(ignored=f"events {event!r} tell nothing here; pull_request and push do")
    except msgspec.ValidationError as error:
        raise FlywheelError(f"this is no {event} event of GitHub's: {error}") from error
    with Links(home, workspace).opened() as links:
        if isinstance(told, PushEvent):
            facts, ignored = _pushed(told, links)
        else:
            facts, ignored = _pull_request(told, links)
    clean = redactor(home, workspace)
    outcomes = [
        clean.outcome(
            checked(
                Outcome(
                    workspace=workspace,
                    trajectory_id=fact.trajectory,
                    signal=fact.signal,
                    value=fact.value,
                    source=SOURCE,
                    observed_at=fact.at,
                    arrived_at=now,
                    comment=fact.comment,
                )
            )
        )
        for fact in facts
    ]
    return Heard(outcomes=outcomes, ignored=ignored)


class Fact(msgspec.Struct, frozen=True):
    """Something that is true of a trajectory since a moment."""

    trajectory: str
    signal: str
    value: float
    at: datetime
    comment: str


def _pull_request(event: PullRequestEvent, links: sqlite3.Connection) -> tuple[list[Fact], str]:
    pull = event.pull_request
    name = f"{event.repository.full_name}#{pull.number}".lower()
    text = pull.body or ""
    _link(links, name, TRAILER.findall(text))
    mine = _linked(links, name)
    if event.action == "reopened":
        return [Fact(id, "reopened", 1.0, _at(pull.updated_at, "updated_at"), name) for id in mine], _unlinked(
            mine, name
        )
    if event.action != "closed":
        return (
            [],
            f"a pull request that was {event.action} has not come to its end; {len(mine)} trajectories are linked",
        )
    if not pull.merged:
        return [Fact(id, "merged", 0.0, _at(pull.closed_at, "closed_at"), name) for id in mine], _unlinked(mine, name)
    at = _at(pull.merged_at, "merged_at")
    facts = [Fact(id, "merged", 1.0, at, name) for id in mine]
    if pull.merge_commit_sha:
        links.execute("INSERT OR REPLACE INTO merges VALUES (?, ?)", (pull.merge_commit_sha.lower(), name))
    undone = [
        f"{repository or event.repository.full_name}#{number}".lower() for repository, number in REVERTS.findall(text)
    ]
    undone += _merged_as(links, REVERTS_COMMIT.findall(text))
    facts += _reverted(links, name, undone, at)
    return facts, "" if facts else _unlinked(mine, name)


def _pushed(event: PushEvent, links: sqlite3.Connection) -> tuple[list[Fact], str]:
    if event.ref != f"refs/heads/{event.repository.default_branch}":
        return [], "only pushes to the default branch tell what became of a change"
    facts: list[Fact] = []
    for commit in event.commits:
        name = f"{event.repository.full_name}@{commit.id}".lower()
        if trajectories := TRAILER.findall(commit.message):
            _link(links, name, trajectories)
            links.execute("INSERT OR IGNORE INTO merges VALUES (?, ?)", (commit.id.lower(), name))
        undone = _merged_as(links, REVERTS_COMMIT.findall(commit.message))
        facts += _reverted(links, name, undone, _at(commit.timestamp, "timestamp"))
    return facts, "" if facts else "these commits revert nothing that a trajectory is linked to"


def _reverted(links: sqlite3.Connection, revert: str, undone: Sequence[str], at: datetime) -> list[Fact]:
    """What is undone by a revert; and what was undone by what is now undone itself stands again."""
    facts: list[Fact] = []
    for change in dict.fromkeys(undone):
        links.execute("INSERT OR IGNORE INTO reverts VALUES (?, ?)", (revert, change))
        again = [of for (of,) in links.execute("SELECT change FROM reverts WHERE revert = ? ORDER BY 1", (change,))]
        for of, value in [(change, 1.0), *((of, 0.0) for of in again)]:
            for id in _linked(links, of):
                facts.append(Fact(id, "reverted", value, at, f"{of} by {revert}"))
                facts.append(Fact(id, "stood", 1.0 - value, at, f"{of} by {revert}"))
    return facts


def _link(links: sqlite3.Connection, change: str, trajectories: Sequence[str]) -> None:
    links.executemany("INSERT OR IGNORE INTO links VALUES (?, ?)", [(change, id) for id in trajectories])


def _linked(links: sqlite3.Connection, change: str) -> list[str]:
    return [id for (id,) in links.execute("SELECT trajectory FROM links WHERE change = ? ORDER BY 1", (change,))]


def _merged_as(links: sqlite3.Connection, shas: Sequence[str]) -> list[str]:
    """The changes that were merged as commits whose hashes, or beginnings of them, are told."""
    found: list[str] = []
    for sha in shas:
        found += [of for (of,) in links.execute("SELECT change FROM merges WHERE sha GLOB ? || '*'", (sha.lower(),))]
    return found


def _at(moment: datetime | None, field: str) -> datetime:
    if moment is None or moment.tzinfo is None:
        raise FlywheelError(f"this is no event of GitHub's: {field} is missing, or has no time zone")
    return moment


def _unlinked(mine: Sequence[str], name: str) -> str:
    return "" if mine else f"no trajectory is linked to {name}; write 'Flywheel-Trajectory: ID' into its text"


def _secret(home: Home, workspace: str) -> Path:
    return home.intake / f"{workspace}.github"


def new_secret(home: Home, workspace: str, *, replace: bool = False) -> str:
    """Make the secret that GitHub signs a workspace's deliveries with; only this machine's files tell it again.

    Raises:
        FlywheelError: when there is one already, and it is not to be replaced.
    """
    workspaces.require(home, workspace)
    path, secret = _secret(home, workspace), secrets.token_hex(32)
    if path.exists() and not replace:
        raise FlywheelError(
            f"workspace {workspace!r} has a webhook's secret already, which was shown once; "
            f"make another, and the old one does not count any more: flywheel github link -w {workspace} --new"
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(16)}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    artifacts.fsync_folder(path.parent)
    return secret


def signed(home: Home, workspace: str, body: bytes, signature: str | None) -> bool:
    """Whether `X-Hub-Signature-256` is this workspace's of a body; false where it has no secret."""
    path = _secret(home, workspace)
    secret = path.read_text() if path.exists() else None
    expected = hmac.new((secret or secrets.token_hex(32)).encode(), body, hashlib.sha256).hexdigest()
    given = (signature or "").encode("utf-8", "replace")
    return hmac.compare_digest(f"sha256={expected}".encode(), given) and secret is not None
