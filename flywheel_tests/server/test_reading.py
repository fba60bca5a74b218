"""Reading: pages in the order of arrival that stay what they were, records and messages, and nobody else's rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture import stored, workspaces
from flywheel.schema import Outcome, Quarantined, Step, Trajectory, outcomes_table, quarantine_table, trajectories_table
from flywheel.settings import Home
from flywheel_tests.server.conftest import Live, serving

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)


def trajectory(n: int, workspace: str = "desk", **fields: object) -> Trajectory:
    """Trajectory `n`, which arrived `n` hours after noon."""
    made = Trajectory(
        id=f"t{n}",
        workspace=workspace,
        task_id=f"task {n}",
        task_group="tasks",
        task_type="refund" if n % 2 else "order",
        agent="bot",
        model="small" if n < 3 else "large",
        tools='[{"type":"function","function":{"name":"look"}}]',
        end_state="completed",
        arrived_at=NOON + timedelta(hours=n),
        source="test",
        steps=(Step(role="user", content=f"Question {n}"), Step(role="assistant", content=f"Answer {n}")),
    )
    return msgspec.structs.replace(made, **fields)


def store(home: Home, *rows: Trajectory) -> None:
    """Put trajectories where settling puts them."""
    warehouse.append(home.captures, trajectories_table(list(rows)))


def filled(home: Home) -> Home:
    """A workspace with six trajectories, one of which has an outcome, and another workspace with one."""
    for name in ("desk", "others"):
        workspaces.create(home, name)
    store(home, *(trajectory(n) for n in range(6)), trajectory(9, "others"))
    told = {"trajectory_id": "t1", "signal": "reward", "value": 1.0, "source": "checker", "observed_at": NOON}
    warehouse.append(home.outcomes, outcomes_table([Outcome(workspace="desk", arrived_at=NOON, **told)]))
    return home


@pytest.fixture
def base(live: Live, desk: Home) -> str:
    """Where they are read."""
    return f"{live(filled(desk))}/api/v1/workspaces"


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where they are read by tests that add nothing."""
    with serving(filled(Home(tmp_path_factory.mktemp("still") / "data"))) as base:
        yield f"{base}/api/v1/workspaces"


def ids(answer: httpx.Response) -> list[str]:
    """The ids of a page."""
    return [item["id"] for item in answer.json()["items"]]


def test_pages_follow_each_other_and_new_arrivals_move_none(base: str, desk: Home) -> None:
    first = httpx.get(f"{base}/desk/trajectories?limit=2")
    store(desk, trajectory(7))
    second = httpx.get(f"{base}/desk/trajectories", params={"limit": 4, "cursor": first.json()["next"]})
    third = httpx.get(f"{base}/desk/trajectories", params={"cursor": second.json()["next"]})

    assert (ids(first), ids(second), ids(third)) == (["t0", "t1"], ["t2", "t3", "t4", "t5"], ["t7"])
    assert third.json()["next"] is None


def test_what_arrived_at_once_is_paged_by_id(base: str, desk: Home) -> None:
    store(desk, *(trajectory(6, id=f"same-{n}") for n in (3, 1, 2)))
    cursor, seen = httpx.get(f"{base}/desk/trajectories?limit=6").json()["next"], []
    while cursor:
        page = httpx.get(f"{base}/desk/trajectories", params={"limit": 1, "cursor": cursor})
        seen += ids(page)
        cursor = page.json()["next"]

    assert seen == ["same-1", "same-2", "same-3"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"task_type": "refund"}, ["t1", "t3", "t5"]),
        ({"task_type": "refund", "model": "large"}, ["t3", "t5"]),
        ({"agent": "bot' OR true --"}, []),
        ({"end_state": "failed"}, []),
        ({"outcome": "true"}, ["t1"]),
        ({"outcome": "false", "model": "small"}, ["t0", "t2"]),
        ({"since": "2026-11-12T16:00:00Z"}, ["t4", "t5"]),
        ({"until": "2026-11-12T13:30:00+00:30"}, ["t0", "t1"]),
        ({"since": "2026-11-12T13:00:00Z", "until": "2026-11-12T13:00:00Z"}, ["t1"]),
        ({"since": "2030-01-01T00:00:00Z"}, []),
    ],
)
def test_rows_are_asked_for(still: str, asked: dict[str, str], found: list[str]) -> None:
    assert ids(httpx.get(f"{still}/desk/trajectories", params=asked)) == found


@pytest.mark.parametrize(
    "asked",
    [
        "limit=0",
        "limit=1001",
        "cursor=x",
        "cursor=bnVsbA==",
        "since=yesterday",
        "since=2026-11-12T13:00:00",
        "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "limits=3",
    ],
)
def test_what_cannot_be_asked_is_told(still: str, asked: str) -> None:
    answer = httpx.get(f"{still}/desk/trajectories?{asked}")

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request")


def test_a_summary_has_all_but_what_was_said(still: str) -> None:
    [item] = httpx.get(f"{still}/desk/trajectories?limit=1").json()["items"]

    assert (item["id"], item["n_steps"], item["workspace"]) == ("t0", 2, "desk")
    assert "steps" not in item


def test_the_record_comes_out_as_it_is_stored(still: str) -> None:
    alone = httpx.get(f"{still}/desk/trajectories/t3").content
    page = httpx.get(f"{still}/desk/trajectories?view=record&limit=4").json()["items"][3]

    assert msgspec.json.decode(alone, type=Trajectory) == trajectory(3)
    assert msgspec.convert(page, Trajectory) == trajectory(3)


def test_messages_come_out_as_chat_templates_read_them(still: str) -> None:
    chat = {
        "id": "t3",
        "messages": [{"role": "user", "content": "Question 3"}, {"role": "assistant", "content": "Answer 3"}],
        "tools": [{"type": "function", "function": {"name": "look"}}],
    }

    assert httpx.get(f"{still}/desk/trajectories/t3?view=chat").json() == chat
    assert httpx.get(f"{still}/desk/trajectories?view=chat&limit=4").json()["items"][3] == chat


@pytest.mark.parametrize("held", [1, 2**24])
def test_all_rows_come_as_lines(base: str, desk: Home, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "HELD", held)
    monkeypatch.setattr(stored, "AT_ONCE", 10)
    store(desk, *(trajectory(n, id=f"t{n:03}") for n in range(100, 125)))
    with httpx.stream(
        "GET", f"{base}/desk/trajectories?view=record", headers={"Accept": "application/x-ndjson"}
    ) as answer:
        rows = [msgspec.json.decode(line, type=Trajectory) for line in answer.iter_lines()]

    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert len(rows) == 31
    assert [row.arrived_at for row in rows] == sorted(row.arrived_at for row in rows)


def test_an_id_may_hold_anything(base: str, desk: Home) -> None:
    store(desk, trajectory(8, id="runs/7 ü?#%2F"))

    assert httpx.get(f"{base}/desk/trajectories/runs%2F7%20%C3%BC%3F%23%252F").json()["task_id"] == "task 8"


def test_quarantined_inputs_are_told(base: str, desk: Home) -> None:
    rows = [
        Quarantined(workspace=w, source="log", line=n, error="broken", excerpt="{", arrived_at=NOON)
        for w, n in (("desk", 1), ("desk", 2), ("desk", None), ("others", 3))
    ]
    warehouse.append(desk.quarantine, quarantine_table(rows))

    pages, cursor = [], ""
    while cursor is not None:
        page = httpx.get(f"{base}/desk/quarantine", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        pages.append([item["line"] for item in page["items"]])
        cursor = page["next"]

    assert [len(page) for page in pages] == [2, 1]
    assert {line for page in pages for line in page} == {1, 2, None}


def test_what_is_of_another_workspace_is_not_there(still: str) -> None:
    assert ids(httpx.get(f"{still}/others/trajectories")) == ["t9"]
    assert httpx.get(f"{still}/desk/trajectories/t9").status_code == 404
    assert httpx.get(f"{still}/others/trajectories/t1").status_code == 404
    assert httpx.get(f"{still}/others/trajectories?outcome=true").json()["items"] == []


def test_workspaces_are_listed(still: str) -> None:
    assert httpx.get(still).json() == {"workspaces": ["desk", "others"]}


def test_a_page_says_until_when_it_is_complete(base: str, desk: Home) -> None:
    assert httpx.get(f"{base}/desk/trajectories").json()["through"] is None
    (desk.journals / "desk").mkdir(parents=True, exist_ok=True)
    Path(desk.journals / "desk" / "closed.json").write_text('{"through": "2026-11-12T20:00:00+00:00"}')

    assert httpx.get(f"{base}/desk/trajectories").json()["through"] == "2026-11-12T20:00:00Z"
