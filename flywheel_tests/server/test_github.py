"""Deliveries as GitHub documents them: signed, and told as outcomes of the trajectories that a pull request names."""

import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.feedback import github
from flywheel.capture.feedback.changes import changes, pull_name
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, FlywheelError
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.test_outcomes import LATER

REPOSITORY = {
    "id": 1296269,
    "node_id": "MDEwOlJlcG9zaXRvcnkxMjk2MjY5",
    "name": "Hello-World",
    "full_name": "Octocat/Hello-World",
    "private": False,
    "owner": {"login": "octocat", "id": 1, "type": "User", "site_admin": False},
    "html_url": "https://github.com/Octocat/Hello-World",
    "default_branch": "main",
}
Deliver = Callable[..., httpx.Response]


def pull_request(number: int, action: str, body: str | None = "", **fields: Any) -> dict[str, Any]:
    """The payload of an event `pull_request`."""
    closed = action == "closed"
    merged = closed and fields.pop("merged", True)
    at = fields.pop("at", f"2026-01-{number:02}T12:00:00Z")
    pull = {
        "url": f"https://api.github.com/repos/Octocat/Hello-World/pulls/{number}",
        "id": 191568743 + number,
        "number": number,
        "state": "closed" if closed else "open",
        "locked": False,
        "title": "Update the README with new information.",
        "user": {"login": "octocat", "id": 21031067, "type": "User"},
        "body": body,
        "created_at": "2026-01-01T09:00:00Z",
        "updated_at": at,
        "closed_at": at if closed else None,
        "merged_at": at if merged else None,
        "merge_commit_sha": f"{number:040x}" if merged else None,
        "labels": [],
        "draft": False,
        "head": {"label": "octocat:changes", "ref": "changes", "sha": "34c5c7793cb3b279e22454cb6750c80560547b3a"},
        "base": {"label": "octocat:main", "ref": "main", "sha": "a10867b14bb761a232cd80139fbd4c0d33264240"},
        "merged": merged,
        "mergeable": None,
        "commits": 1,
        "additions": 1,
        "deletions": 1,
        "changed_files": 1,
    } | fields
    sender = {"login": "octocat", "id": 21031067, "type": "User", "site_admin": False}
    return {"action": action, "number": number, "pull_request": pull, "repository": REPOSITORY, "sender": sender}


def push(*messages: str, ref: str = "refs/heads/main") -> dict[str, Any]:
    """The payload of an event `push`."""
    commits = [
        {
            "id": f"{900 + number:040x}",
            "tree_id": "f9d2a07e9488b91af2641b26b9407fe22a451433",
            "distinct": True,
            "message": message,
            "timestamp": f"2026-02-0{number + 1}T09:00:00+01:00",
            "url": "https://github.com/Octocat/Hello-World/commit/1",
            "author": {"name": "Mona", "email": "mona@github.com", "username": "octocat"},
            "added": [],
            "removed": [],
            "modified": ["README.md"],
        }
        for number, message in enumerate(messages)
    ]
    return {"ref": ref, "before": "0" * 40, "after": "1" * 40, "repository": REPOSITORY, "commits": commits}


@pytest.fixture
def deliver(live: Live, desk: Home) -> Deliver:
    url, secret = f"{live(desk)}/w/desk/github", github.new_secret(desk, "desk")

    def send(event: str, payload: Any, **headers: str) -> httpx.Response:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        given = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "X-GitHub-Hook-ID": "292430182",
            "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
        }
        return httpx.post(url, content=body, headers=given | {k.replace("_", "-"): v for k, v in headers.items()})

    return send


def ledger(home: Home) -> list[tuple[Any, ...]]:
    settle(home, "desk", LATER)
    rows = warehouse.read(home.outcomes, OUTCOMES, "desk").to_pylist()
    return sorted((f"{r['observed_at']:%m-%d}", r["trajectory_id"], r["signal"], r["value"]) for r in rows)


def test_a_pull_request_is_merged_or_closed(deliver: Deliver, desk: Home) -> None:
    both = "Fixes the total.\r\n\r\nFlywheel-Trajectory: t-1\r\nflywheel-trajectory:  t-2\r\n"
    assert deliver("pull_request", pull_request(3, "opened", both)).status_code == 202
    assert deliver("pull_request", pull_request(3, "closed", "the trailer is gone")).json() == {
        "outcomes": 2, "ignored": "",
    }  # fmt: skip
    assert deliver("pull_request", pull_request(4, "closed", "- Flywheel-Trajectory: t-3", merged=False)).json()
    deliver("pull_request", pull_request(4, "reopened", None, at="2026-01-05T12:00:00Z"))
    assert ledger(desk) == [
        ("01-03", "t-1", "merged", 1.0),
        ("01-03", "t-2", "merged", 1.0),
        ("01-04", "t-3", "merged", 0.0),
        ("01-05", "t-3", "reopened", 1.0),
    ]
    comments = warehouse.read(desk.outcomes, OUTCOMES)["comment"].to_pylist()
    assert set(comments) == {"octocat/hello-world#3", "octocat/hello-world#4"}


def test_a_delivery_that_comes_again_adds_nothing(deliver: Deliver, desk: Home) -> None:
    payload = pull_request(3, "closed", "Flywheel-Trajectory: t-1")
    assert [deliver("pull_request", payload).status_code for _ in range(3)] == [200] * 3
    assert len(ledger(desk)) == 1


def test_a_revert_finds_the_trajectory_of_what_it_undoes_and_can_be_undone(deliver: Deliver, desk: Home) -> None:
    with changes(desk, "desk") as known:
        known.link(pull_name("octocat/Hello-World#3"), ["t-1"])
    deliver("pull_request", pull_request(3, "closed"))
    title = 'Revert "Update the README with new information."'
    revert = pull_request(10, "closed", "Reverts Octocat/Hello-World#3", title=title)
    assert deliver("pull_request", revert).json()["outcomes"] == 2
    deliver("pull_request", pull_request(12, "closed", "Reverts #10\n\nFlywheel-Trajectory: t-9"))
    assert ledger(desk) == [
        ("01-03", "t-1", "merged", 1.0),
        ("01-10", "t-1", "reverted", 1.0),
        ("01-10", "t-1", "stood", 0.0),
        ("01-12", "t-1", "reverted", 0.0),
        ("01-12", "t-1", "stood", 1.0),
        ("01-12", "t-9", "merged", 1.0),
    ]


def test_a_revert_that_is_not_merged_undoes_nothing(deliver: Deliver, desk: Home) -> None:
    with changes(desk, "desk") as known:
        known.link("octocat/hello-world#3", ["t-1"])
    told = deliver("pull_request", pull_request(10, "closed", "Reverts Octocat/Hello-World#3", merged=False))
    assert told.status_code == 202
    assert ledger(desk) == []


def test_commits_that_are_pushed_link_and_revert_too(deliver: Deliver, desk: Home) -> None:
    deliver("pull_request", pull_request(3, "closed", "Flywheel-Trajectory: t-1"))
    undo = f'Revert "Update"\n\nThis reverts commit {3:040x}.\n'
    done = push("A fix\n\nFlywheel-Trajectory: t-2", undo, f"This reverts commit {900:040x}")
    assert deliver("push", push(undo, ref="refs/heads/feature")).status_code == 202
    assert deliver("push", done).json()["outcomes"] == 4
    assert [row for row in ledger(desk) if row[2] == "reverted"] == [
        ("02-02", "t-1", "reverted", 1.0),
        ("02-03", "t-2", "reverted", 1.0),
    ]


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("ping", {"zen": "Design for failure.", "hook_id": 1, "hook": {"type": "Repository"}}, "ping"),
        ("star", {"action": "created"}, "tell nothing here"),
        ("pull_request", pull_request(3, "closed"), "no trajectory is linked to octocat/hello-world#3"),
        ("pull_request", pull_request(3, "labeled", "Flywheel-Trajectory: t"), "1 trajectories are linked"),
    ],
)
def test_what_tells_nothing_is_ignored_with_a_reason(deliver: Deliver, event: str, payload: Any, reason: str) -> None:
    answer = deliver(event, payload)
    assert answer.status_code == 202
    assert reason in answer.json()["ignored"]


def test_forms_are_read_as_well(deliver: Deliver, desk: Home) -> None:
    body = urlencode({"payload": json.dumps(pull_request(3, "closed", "Flywheel-Trajectory: t-1"))}).encode()
    assert deliver("pull_request", body, Content_Type="application/x-www-form-urlencoded").status_code == 200
    assert deliver("pull_request", b"a=b", Content_Type="application/x-www-form-urlencoded").status_code == 400


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"action":"closed"}', b'{"action":', b'{"a":1,"a":2}'])
def test_what_github_does_not_send_is_refused(deliver: Deliver, payload: bytes) -> None:
    assert deliver("pull_request", payload).status_code == 400


def test_what_is_refused_is_kept_without_its_secrets(deliver: Deliver, desk: Home) -> None:
    body = urlencode({"payload": '{"action": "closed", "by": "ann@x.org"'}).encode()
    for _ in range(2):
        assert deliver("pull_request", body, Content_Type="application/x-www-form-urlencoded").status_code == 400
    settle(desk, "desk", LATER)
    [row] = warehouse.read(desk.quarantine, QUARANTINE, "desk").to_pylist()
    assert (row["source"], row["excerpt"]) == ("github", 'payload={"action": "closed", "by": "<EMAIL>"')


def test_what_is_not_signed_is_refused(live: Live, deliver: Deliver, desk: Home) -> None:
    payload = pull_request(3, "closed", "Flywheel-Trajectory: t-1")
    wrong = [{"X_Hub_Signature_256": f"sha256={'0' * 64}"}, {"X_Hub_Signature_256": ""}, {"X_Hub_Signature_256": "é"}]
    assert [deliver("pull_request", payload, **headers).status_code for headers in wrong[:2]] == [401, 401]
    old = github.new_secret(desk, "desk", replace=True)
    assert deliver("pull_request", payload).status_code == 401, "the old secret does not count any more"
    body = json.dumps(payload).encode()
    headers = {"X-Hub-Signature-256": f"sha256={hmac.new(old.encode(), body, hashlib.sha256).hexdigest()}"}
    assert httpx.post(f"{live(desk)}/w/nowhere/github", content=body, headers=headers).status_code == 401
    assert ledger(desk) == []


def test_the_secret_is_shown_once_and_kept_for_its_owner_alone(desk: Home) -> None:
    assert len(github.new_secret(desk, "desk")) == 64
    with pytest.raises(FlywheelError, match="--new"):
        github.new_secret(desk, "desk")
    [kept] = desk.intake.glob("*.github")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_same_event_gives_the_same_outcomes(desk: Home) -> None:
    payload = pull_request(3, "closed", "Flywheel-Trajectory: t-1")
    told = [
        github.hear(desk, "desk", "pull_request", payload, at).outcomes for at in (LATER, datetime.now().astimezone())
    ]
    assert told[0][0].id == told[1][0].id


def test_no_secret_of_a_pull_request_is_kept(deliver: Deliver, desk: Home) -> None:
    text = "Thanks to ann@x.org!\n\nFlywheel-Trajectory: run-of-ann@x.org\nFlywheel-Trajectory: t-1\n"
    deliver("pull_request", pull_request(3, "closed", text))
    assert len(ledger(desk)) == 2
    kept = b"".join(path.read_bytes() for path in desk.root.rglob("*") if path.is_file())
    assert b"ann@x.org" not in kept
    assert b"t-1" in kept


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
PULL_FIELDS = ("number", "title", "body", "merged", "merged_at", "closed_at", "updated_at", "merge_commit_sha")


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(PULL_FIELDS), JSON),
    st.sampled_from(["closed", "reopened", "opened", "\ud800"]),
    st.sampled_from(["t-1", "\udcff", "é"]),
    JSON,
)
def test_whatever_is_signed_is_told_or_refused(fields: dict[str, Any], action: str, id: str, other: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, "desk")
        payload = pull_request(3, action, f"Flywheel-Trajectory: {id}\nReverts #2")
        payload["pull_request"] |= fields
        for event, sent in (("pull_request", payload), ("pull_request", other), ("push", other)):
            with suppress(FlywheelError):
                heard = github.hear(home, "desk", event, sent, LATER)
                assert msgspec.json.encode(heard)
