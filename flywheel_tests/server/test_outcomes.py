"""Outcomes over HTTP: on disk when answered, each once, and read back page by page."""

from datetime import UTC, datetime

import httpx
import pytest

from flywheel import warehouse
from flywheel.capture import access
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live

PATH = "/api/v1/workspaces/desk/outcomes"
LATER = datetime(2030, 1, 1, tzinfo=UTC)
ONE = {"trajectory_id": "a", "signal": "resolved", "value": True, "observed_at": "2026-01-05T12:00:00Z"}


def ledger(home: Home) -> list[tuple[object, ...]]:
    settle(home, "desk", LATER)
    rows = warehouse.read(home.outcomes, OUTCOMES, "desk").to_pylist()
    return sorted((r["trajectory_id"], r["signal"], r["value"], r["source"], r["comment"]) for r in rows)


def test_one_a_list_and_lines(live: Live, desk: Home) -> None:
    url = live(desk) + PATH
    taken = {"accepted": 1, "already_there": 0, "quarantined": []}
    assert httpx.post(url, json=ONE).json() == taken
    two = [ONE | {"signal": "stars", "value": 4}, ONE | {"trajectory_id": "b", "comment": "by ann@x.org"}]
    assert httpx.post(url, json=two).json() == taken | {"accepted": 2}
    line = b'{"trajectory_id":"c","signal":"s","value":0.5,"source":"judge","step_index":2}\n'
    sent = httpx.post(url, content=line + b"\n" + line, headers={"Content-Type": "application/x-ndjson"})
    assert sent.json() == taken | {"accepted": 2}
    assert ledger(desk)[:3] == [
        ("a", "resolved", 1.0, "api", ""),
        ("a", "stars", 4.0, "api", ""),
        ("b", "resolved", 1.0, "api", "by <EMAIL>"),
    ]


def test_what_is_told_again_is_there_once(live: Live, desk: Home) -> None:
    url = live(desk) + PATH
    keyed = {"trajectory_id": "a", "signal": "liked", "value": 1, "key": "click-7"}
    answers = [httpx.post(url, json=[ONE, keyed]).json() for _ in range(3)]
    assert [(a["accepted"], a["already_there"]) for a in answers] == [(2, 0), (1, 1), (1, 1)]
    other = httpx.post(url, json=[keyed | {"value": 0}]).json()
    assert "was told of another outcome" in other["quarantined"][0]["error"]
    assert [row[:3] for row in ledger(desk)] == [("a", "liked", 1.0), ("a", "resolved", 1.0)]


def test_bad_outcomes_are_set_aside_and_the_others_stand(live: Live, desk: Home) -> None:
    body = b'{"signal":"s"}\nnonsense\n{"trajectory_id":"a","signal":"s","value":1,"color":2}\n'
    body += b'{"trajectory_id":"a","signal":"s","value":1,"value":0}\n{"trajectory_id":"a","signal":"s","value":1}\n'
    body += b'{"trajectory_id":"a","signal":"s","value":1,"observed_at":"2026-01-05T12:00:00"}\n'
    sent = httpx.post(live(desk) + PATH, content=body, headers={"Content-Type": "application/x-ndjson"}).json()
    assert (sent["accepted"], [bad["line"] for bad in sent["quarantined"]]) == (1, [1, 2, 3, 4, 6])
    settle(desk, "desk", LATER)
    assert warehouse.read(desk.quarantine, QUARANTINE, "desk").num_rows == 5


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [(b"[", "application/json", 400), (b"{}", "text/plain", 415), (b"", "application/x-ndjson", 200)],
)
def test_bodies_that_are_none(live: Live, desk: Home, content: bytes, kind: str, status: int) -> None:
    assert httpx.post(live(desk) + PATH, content=content, headers={"Content-Type": kind}).status_code == status


def test_the_ledger_is_read_page_by_page(live: Live, desk: Home) -> None:
    url = live(desk) + PATH
    assert httpx.get(url).json() == {"outcomes": [], "next": None, "closed_through": None}
    httpx.post(url, json=[ONE | {"trajectory_id": f"t{n}", "signal": "s" if n % 2 else "r"} for n in range(7)])
    ledger(desk)
    seen, cursor = [], None
    while True:
        page = httpx.get(url, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["trajectory_id"] for row in page["outcomes"]]
        if (cursor := page["next"]) is None:
            break
    assert sorted(seen) == [f"t{n}" for n in range(7)]
    assert len(httpx.get(url, params={"signal": "s"}).json()["outcomes"]) == 3
    assert len(httpx.get(url, params={"trajectory": "t3"}).json()["outcomes"]) == 1
    assert httpx.get(url, params={"since": page["closed_through"]}).json()["outcomes"] == []
    mistaken = ({"limit": 0}, {"cursor": "x"}, {"since": "yesterday"}, {"since": "2026-01-05T12:00:00"}, {"signl": "x"})
    for wrong in mistaken:
        assert httpx.get(url, params=wrong).status_code == 400


def test_a_page_whose_files_are_erased_just_now_is_asked_for_again(
    live: Live, desk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = live(desk) + PATH
    httpx.post(url, json=ONE)
    ledger(desk)
    [file] = warehouse.files(desk.outcomes, "desk")
    gone = f"read_parquet('{file.with_name('gone.parquet')}')"
    monkeypatch.setattr(warehouse, "scan_sql", lambda *_: gone)
    answer = httpx.get(url)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_each_way_asks_for_its_role(live: Live, desk: Home) -> None:
    admin, _ = access.issue(desk, "desk", ["admin"], name="admin")
    capture, _ = access.issue(desk, "desk", ["capture"], name="agent")
    url = live(desk) + PATH
    assert httpx.post(url, json=ONE).status_code == 401
    assert httpx.post(url, json=ONE, headers={"Authorization": f"Bearer {capture}"}).status_code == 200
    assert httpx.get(url, headers={"Authorization": f"Bearer {capture}"}).status_code == 403
    assert httpx.get(url, headers={"X-Flywheel-Token": admin}).status_code == 200
