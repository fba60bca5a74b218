"""Posting trajectories: what is answered is on disk, what is not read is told with its line, nothing comes twice."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture.journals import journal
from flywheel.capture.settling.settle import settle
from flywheel.corpus.query import query
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live, serving

LINES = {"Content-Type": "application/x-ndjson"}


def row(n: int) -> dict[str, object]:
    """Trajectory `n` as it is posted."""
    return {"id": f"t{n}", "task_id": "t", "agent": "a", "steps": [{"role": "user", "content": f"Question {n}"}]}


def lines(*rows: object) -> bytes:
    """Rows as NDJSON."""
    return b"\n".join(r if isinstance(r, bytes) else msgspec.json.encode(r) for r in rows)


def post(base: str, body: bytes, headers: dict[str, str] = LINES) -> httpx.Response:
    """Send a body to `desk`."""
    return httpx.post(f"{base}/api/v1/workspaces/desk/trajectories", content=body, headers=headers)


def ids(home: Home) -> list[str]:
    """What is stored, once what has come in is settled."""
    settle(home, "desk", datetime.now(UTC))
    return [id for (id,) in query(home, "SELECT id FROM trajectories ORDER BY id").rows]


def test_in_is_accepted_and_quarantined_line_by_line(desk: Home) -> None:
    with serving(desk) as base:
        answer = post(base, lines(row(1), b"{broken", row(2), b"", row(3) | {"agent": 7}))

    told = answer.json()
    assert (answer.status_code, told["accepted"], [bad["line"] for bad in told["quarantined"]]) == (200, 2, [2, 5])
    assert ids(desk) == ["t1", "t2"]
    assert query(desk, "SELECT line, error FROM quarantine ORDER BY line").rows == [
        (bad["line"], bad["error"]) for bad in told["quarantined"]
    ]


@pytest.mark.parametrize("body", [[row(1), row(2)], row(1)])
def test_json_is_a_list_or_one(desk: Home, body: object) -> None:
    with serving(desk) as base:
        answer = post(base, msgspec.json.encode(body), {"Content-Type": "application/json; charset=utf-8"})

    assert answer.json() == {"accepted": len(ids(desk)), "quarantined": []}


def test_what_is_sent_again_is_there_once(desk: Home) -> None:
    with serving(desk, Config(settle_every_s=0.05)) as base:
        for _ in range(3):
            assert post(base, lines(row(1), row(2), b"?")).json()["accepted"] == 2

    assert ids(desk) == ["t1", "t2"]
    assert query(desk, "SELECT count(*) FROM quarantine").rows == [(1,)]


def test_bad_requests_make_no_files(desk: Home) -> None:
    with serving(desk, Config(settle_every_s=3600)) as base:
        for n in range(5):
            assert post(base, b"broken %d" % n).json()["accepted"] == 0
        assert len(journal.paths(desk.journals / "desk")) == 1
        assert warehouse.files(desk.quarantine, "desk") == []
    assert len(warehouse.files(desk.quarantine, "desk")) == 1
    assert query(desk, "SELECT count(*) FROM quarantine").rows == [(5,)]


def test_the_answer_comes_when_it_is_on_disk(live: Live, desk: Home) -> None:
    post(live(desk), lines(row(1)))

    [path] = journal.paths(desk.journals / "desk")
    [(_, event)] = journal.read(path)[0]
    assert event.trajectory.id == "t1"  # type: ignore[union-attr]


def test_a_body_that_is_no_json_list_is_refused_whole(live: Live, desk: Home) -> None:
    answer = post(live(desk), b"[" + lines(row(1)) + b", ", {"Content-Type": "application/json"})

    assert (answer.status_code, "nothing was recorded" in answer.json()["error"]["message"]) == (400, True)
    assert journal.paths(desk.journals / "desk") == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_of_another_site_can_send_is_of_a_wrong_type(live: Live, desk: Home, kind: str) -> None:
    assert post(live(desk), lines(row(1)), {"Content-Type": kind}).status_code == 415


def test_records_are_counted_and_nested_only_so_deep(live: Live, desk: Home) -> None:
    base = live(desk, Config(lines=2, depth=10, field_bytes=100))

    assert post(base, lines(row(1), row(2), row(3))).status_code == 413
    told = post(base, lines(row(1) | {"metadata": '{"a":' * 11 + "1" + "}" * 11}, row(1) | {"model": "m" * 101})).json()
    assert [bad["error"] for bad in told["quarantined"]] == [
        "more than 10 lists and objects stand inside one another: send it as text",
        "model has 101 characters; a text may have 100",
    ]


def test_a_full_disk_answers_503_and_keeps_what_it_acknowledged(
    live: Live, desk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, fsync = live(desk), os.fsync
    assert post(base, lines(row(1))).status_code == 200

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused = post(base, lines(row(2)))
    monkeypatch.setattr(os, "fsync", fsync)
    again = post(base, lines(row(2)))

    assert (refused.status_code, again.status_code) == (503, 200)
    assert refused.headers["Retry-After"] == "30"
    assert ids(desk) == ["t1", "t2"]


def test_a_server_settles_by_itself_and_when_it_stops(desk: Home) -> None:
    with serving(desk) as base:
        post(base, lines(row(1)))

    assert query(desk, "SELECT id FROM trajectories").rows == [("t1",)]
    assert journal.paths(desk.journals / "desk") == []
