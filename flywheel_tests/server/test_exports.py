"""Rows of a format over HTTP: streamed, page by page, and of one workspace alone."""

import hashlib
import json

import httpx
import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture import access, workspaces
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.export import choose, write
from flywheel.schema import trajectories_table
from flywheel.settings import Home
from flywheel.views.formats import FORMATS
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory
from flywheel_tests.corpus.conftest import week as week
from flywheel_tests.export.test_choose import HELD, KEPT, TRAIN
from flywheel_tests.server.conftest import serving

PATH = "/api/v1/workspaces/support/exports"


@pytest.fixture
def asked(week: Home):
    """Twelve episodes and a version of them, and a client of a server over them."""
    snapshot(week, "desk", SPEC, MONDAY)
    with serving(week) as url, httpx.Client(base_url=url) as client:
        yield client


def rows(answer: httpx.Response) -> list[dict]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.content.splitlines()]


def test_each_format_streams_what_the_files_hold(asked: httpx.Client, week: Home, tmp_path):
    for name in FORMATS:
        card = write.trajectories(week, choose.of_version(week, manifest(week, "desk")), name, tmp_path / name)
        got = asked.get(f"{PATH}/{name}", params={"version": "desk@v1"})
        assert got.content == (tmp_path / name / card.files[0].name).read_bytes(), name
        assert "x-next-cursor" not in got.headers


def test_pages_follow_each_other(asked: httpx.Client):
    found: list[str] = []
    params = {"version": "desk@v1", "limit": "3"}
    while True:
        got = asked.get(f"{PATH}/trl-sft", params=params)
        found += [row["id"] for row in rows(got)]
        if "x-next-cursor" not in got.headers:
            break
        following = [row["id"] for row in rows(asked.get(got.links["next"]["url"]))]
        params["cursor"] = got.headers["x-next-cursor"]
        assert [row["id"] for row in rows(asked.get(f"{PATH}/trl-sft", params=params))] == following
    assert found == KEPT


def test_what_a_format_has_no_row_for_is_counted(asked: httpx.Client, week: Home):
    bare = msgspec.structs.replace(trajectory(50), id="zz", steps=trajectory(50).steps[:1])
    warehouse.append(week.captures, trajectories_table([bare]))
    page = asked.get(f"{PATH}/openai", headers={"Accept": "application/json"}).json()
    card = asked.get(f"{PATH}/openai/card").json()
    lines = asked.get(f"{PATH}/openai")
    reason = "the assistant says nothing"
    assert ([json.loads(line) for line in lines.content.splitlines()], page["next"]) == (page["rows"], None)
    assert (page["written"], page["left_out"]) == (len(TRAIN), {reason: 1})
    assert (card["looked_at"], card["written"]) == (13, len(TRAIN))
    assert card["left_out"] == {"held out": len(HELD), reason: 1}
    [file] = card["files"]
    assert file["rows"] == len(page["rows"])
    assert file["name"] == "openai.ndjson"
    assert (file["bytes"], file["sha256"]) == (len(lines.content), hashlib.sha256(lines.content).hexdigest())


def test_pages_in_json_add_up(asked: httpx.Client):
    found: list[str] = []
    params: dict[str, str] = {"version": "desk@v1", "limit": "4"}
    while True:
        page = asked.get(f"{PATH}/trl-sft", params=params, headers={"Accept": "application/json"}).json()
        assert page["written"] + sum(page["left_out"].values()) <= 4
        found += [row["id"] for row in page["rows"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert found == KEPT
    card = asked.get(f"{PATH}/trl-sft/card", params={"version": "desk@v1"}).json()
    assert (card["written"], card["made_of"]["version"]) == (len(KEPT), 1)


def test_a_workspace_a_side_and_a_condition(asked: httpx.Client):
    def ids(**params: str) -> list[str]:
        return [row["id"] for row in rows(asked.get(f"{PATH}/axolotl", params=params))]

    assert ids() == TRAIN
    assert ids(split="heldout") == HELD
    assert ids(where="reward < 1") == [id for id in TRAIN if id in ("t003", "t007")]
    assert ids(where="reward < -1") == []


REFUSED = [
    ("nonsense", {}, 404, "there is no format"),
    ("trl-dpo", {}, 404, "there is no format"),
    ("openai", {"version": "other@v1"}, 404, "has no corpus version"),
    ("openai", {"version": "desk@v9"}, 404, "has no corpus version"),
    ("openai", {"version": "../desk"}, 400, "is not usable"),
    ("openai", {"where": "nonsense"}, 400, "nonsense"),
    ("openai", {"where": "1); DROP TABLE x; --"}, 400, "filter"),
    ("openai", {"split": "all"}, 400, "split"),
    ("openai", {"limit": "0"}, 400, "limit"),
    ("openai", {"limits": "9"}, 400, "limits"),
    ("openai", {"cursor": "!"}, 400, "no cursor"),
    ("openai", {"cursor": "_w=="}, 400, "no cursor"),
    ("openai", {"cursor": "é\x00"}, 400, "no cursor"),
    ("openai", {"version": "desk@\x00"}, 400, ""),
]


def test_what_cannot_be_says_why(asked: httpx.Client):
    for path, params, status, told in REFUSED:
        got = asked.get(f"{PATH}/{path}", params=params)
        assert (got.status_code, told in got.json()["error"]["message"]) == (status, True), got.text


def test_a_version_of_another_workspace_is_not_there(asked: httpx.Client, week: Home):
    workspaces.create(week, "other")
    theirs = [msgspec.structs.replace(trajectory(n), workspace="other", id=f"o{n}") for n in range(3)]
    warehouse.append(week.captures, trajectories_table(theirs))
    snapshot(week, "others", msgspec.structs.replace(SPEC, workspace="other"), MONDAY)
    got = asked.get(f"{PATH}/openai", params={"version": "others@v1"})
    assert got.status_code == 404
    assert got.json()["error"]["message"] == "workspace 'support' has no corpus version 'others@v1'"
    assert [row["trajectory_id"] for row in rows(asked.get(f"{PATH}/steps"))] == [id for id in TRAIN for _ in range(5)]


def test_a_guarded_workspace_asks_for_the_role(asked: httpx.Client, week: Home):
    access.issue(week, "support", ["admin"], name="admin")
    exporter, _ = access.issue(week, "support", ["export"], name="exporter")
    reader, _ = access.issue(week, "support", ["read"], name="reader")
    for token, status in ((None, 401), ("fw_" + "0" * 64, 401), (reader, 403), (exporter, 200)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert asked.get(f"{PATH}/openai", headers=headers).status_code == status
