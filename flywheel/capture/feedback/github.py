"""GitHub tells what became of pull requests: merged, closed, reopened, reverted, as outcomes of trajectories."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.feedback.changes import Changes, changes
from flywheel.capture.redaction.redact import redactor
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome
from flywheel.settings import Home

SOURCE = "github"

# In the text of a pull request, or the message of a commit: what worked on it. Each on a line of its own, any number.
TRAILER = re.compile(r"^[ \t>*-]*Flywheel-Trajectory:[ \t]*(\S{1,512})[ \t]*\r?$", re.I | re.M)

# What GitHub's Revert button writes into the new pull request, and git into the message of a revert.
REVERTS = re.compile(r"\bReverts[ \t]+([\w.-]+/[\w.-]+)?#(\d+)", re.I)
REVERTS_COMMIT = re.compile(r"\bThis reverts commit ([0-9a-f]{7,64})", re.I)


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
    with changes(home, workspace) as known:
        facts, ignored = _pushed(told, known) if isinstance(told, PushEvent) else _pull_request(told, known)
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
    return Heard(outcomes=outcomes, ignored=clean.text(ignored))


class Fact(msgspec.Struct, frozen=True):
    """Something that is true of a trajectory since a moment."""

    trajectory: str
    signal: str
    value: float
    at: datetime
    comment: str


def _pull_request(event: PullRequestEvent, known: Changes) -> tuple[list[Fact], str]:
    pull = event.pull_request
    name = f"{event.repository.full_name}#{pull.number}".lower()
    text = pull.body or ""
    known.link(name, TRAILER.findall(text))
    mine = known.linked(name)
    unlinked = "" if mine else f"no trajectory is linked to {name}; write 'Flywheel-Trajectory: ID' into its text"
    if event.action == "reopened":
        return [Fact(id, "reopened", 1.0, _at(pull.updated_at, "updated_at"), name) for id in mine], unlinked
    if event.action != "closed":
        return (
            [],
            f"a pull request that was {event.action} has not come to its end; {len(mine)} trajectories are linked",
        )
    if not pull.merged:
        return [Fact(id, "merged", 0.0, _at(pull.closed_at, "closed_at"), name) for id in mine], unlinked
    at = _at(pull.merged_at, "merged_at")
    if pull.merge_commit_sha:
        known.merged(name, pull.merge_commit_sha)
    told = [(repository or event.repository.full_name, number) for repository, number in REVERTS.findall(text)]
    undone = [f"{repository}#{number}".lower() for repository, number in told]
    undone += known.merged_as(REVERTS_COMMIT.findall(text))
    facts = [Fact(id, "merged", 1.0, at, name) for id in mine] + _reverted(known, name, undone, at)
    return facts, "" if facts else unlinked


def _pushed(event: PushEvent, known: Changes) -> tuple[list[Fact], str]:
    if event.ref != f"refs/heads/{event.repository.default_branch}":
        return [], "only pushes to the default branch tell what became of a change"
    facts: list[Fact] = []
    for commit in event.commits:
        name = f"{event.repository.full_name}@{commit.id}".lower()
        if trajectories := TRAILER.findall(commit.message):
            known.link(name, trajectories)
            known.merged(name, commit.id)
        undone = known.merged_as(REVERTS_COMMIT.findall(commit.message))
        facts += _reverted(known, name, undone, _at(commit.timestamp, "timestamp"))
    return facts, "" if facts else "these commits revert nothing that a trajectory is linked to"


def _reverted(known: Changes, revert: str, undone: Sequence[str], at: datetime) -> list[Fact]:
    """What is undone by a revert; and what was undone by what is now undone itself stands again."""
    facts: list[Fact] = []
    for change in dict.fromkeys(undone):
        for of, value in [(change, 1.0), *((again, 0.0) for again in known.reverted(revert, change))]:
            for id in known.linked(of):
                facts.append(Fact(id, "reverted", value, at, f"{of} by {revert}"))
                facts.append(Fact(id, "stood", 1.0 - value, at, f"{of} by {revert}"))
    return facts


def _at(moment: datetime | None, field: str) -> datetime:
    if moment is None or moment.tzinfo is None:
        raise FlywheelError(f"this is no event of GitHub's: {field} is missing, or has no time zone")
    return moment


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
    artifacts.write_bytes(path, secret.encode(), private=True)
    return secret


def signed(home: Home, workspace: str, body: bytes, signature: str | None) -> bool:
    """Whether `X-Hub-Signature-256` is this workspace's of a body; false where it has no secret."""
    path = _secret(home, workspace)
    secret = path.read_text() if path.exists() else None
    expected = hmac.new((secret or secrets.token_hex(32)).encode(), body, hashlib.sha256).hexdigest()
    given = (signature or "").encode("utf-8", "replace")
    return hmac.compare_digest(f"sha256={expected}".encode(), given) and secret is not None
