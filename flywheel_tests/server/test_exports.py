"""Rows of a format over HTTP: streamed, page by page, and of one workspace alone."""

import base64
import hashlib
import json

import httpx
import msgspec
import pytest

from flywheel import artifacts, warehouse
from flywheel.capture import access, workspaces
from flywheel.corpus.manifest import manifest
from flywheel.corpus.query import Bounds
from flywheel.corpus.snapshot import snapshot
from flywheel.export import choose, formats, write
from flywheel.export.trajectories import Trajectories
from flywheel.preferences import storage
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.rollout import storage as forests
from flywheel.rollout.forest import About, Forest
from flywheel.rollout.statistics import statistics
from flywheel.schema import Step, outcomes_table, trajectories_table
from flywheel.settings import Home
from flywheel.views.formats import FORMATS
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict
from flywheel_tests.corpus.conftest import week as week
from flywheel_tests.export.test_choose import HELD, KEPT, TRAIN
from flywheel_tests.preferences.test_pairs import boxes
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
        source = Trajectories(week, choose.of_version(week, manifest(week, "desk")), FORMATS[name])
        card = write.files(source, tmp_path / name)
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
    ("trl-dpo", {"pairs": "q"}, 404, "has no pairs 'q'"),
    ("trl-dpo", {"pairs": "../p"}, 400, "is not usable"),
    ("trl-dpo", {"trees": "t"}, 400, "trees are for step-records"),
    ("step-records", {"trees": "t"}, 404, "has no trees 't'"),
    ("trl-dpo", {"pairs": "p", "version": "desk@v1"}, 400, "one of version, sql, pairs and trees"),
    ("openai", {"margin": "0.5"}, 400, "are for trl-dpo"),
    ("openai", {"sql": "SELECT 1; SELECT 2"}, 400, "write one statement"),
    ("openai", {"sql": "SELECT content FROM read_text('/etc/hostname')"}, 400, ""),
    ("openai", {"sql": "DROP VIEW trajectories"}, 400, "a query reads"),
    ("openai", {"sql": "SELECT * FROM trajectories"}, 400, "must give trajectory_id"),
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


def test_a_statement_sees_the_workspace_alone(asked: httpx.Client, week: Home):
    workspaces.create(week, "other")
    theirs = [msgspec.structs.replace(trajectory(n), workspace="other", id=f"o{n}") for n in range(3)]
    warehouse.append(week.captures, trajectories_table(theirs))
    snapshot(week, "others", msgspec.structs.replace(SPEC, workspace="other"), MONDAY)

    def told(sql: str) -> httpx.Response:
        return asked.get(f"{PATH}/trl-sft", params={"sql": sql})

    assert [row["id"] for row in rows(told("SELECT id AS trajectory_id FROM trajectories"))] == TRAIN
    assert rows(told("SELECT trajectory_id FROM decisions WHERE corpus = 'others'")) == []
    assert rows(told("SELECT unnest(['o0', 'o1'])")) == []
    card = asked.get(f"{PATH}/trl-sft/card", params={"sql": "SELECT unnest(['o0', 't000', 't000'])"}).json()
    assert (card["written"], card["left_out"]) == (1, {"named twice": 1, "no trajectory of this workspace": 1})
    other = next((week.captures / "workspace=other").rglob("*.parquet"))
    for path in (other, week.corpora / "others" / "versions" / "v1.json", "/etc/hostname"):
        assert told(f"SELECT filename FROM read_blob('{path}')").status_code == 400


def test_a_statement_that_takes_too_much_is_stopped(asked: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flywheel.server.exports.Bounds", lambda: Bounds(seconds=0.2, mebibytes=64))
    monkeypatch.setattr(choose, "MOST", 1000)
    for sql, why in (
        ("SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b", "took too long"),
        ("SELECT list(range) FROM range(100000000)", "took too long"),
        ("SELECT range FROM range(100000000)", "more than 1,000 rows"),
    ):
        got = asked.get(f"{PATH}/openai", params={"sql": sql})
        assert (got.status_code, why in got.json()["error"]["message"]) == (400, True), got.text


# Two that are trained on, and succeeded.
TRIED = (0, 4)


@pytest.mark.parametrize("name", ["trl-dpo", "step-records"])
def test_the_tries_of_tasks_go_out_by_whole_tasks(asked: httpx.Client, week: Home, name: str, tmp_path):
    tries = [msgspec.structs.replace(trajectory(n), id=f"u{n}", task_id=f"task-{n}") for n in TRIED]
    changed = [msgspec.structs.replace(t, steps=(*t.steps[:-1], Step(role="assistant", content="No."))) for t in tries]
    warehouse.append(week.captures, trajectories_table(changed))
    said = [msgspec.structs.replace(verdict(n, 0.0), trajectory_id=f"u{n}") for n in TRIED]
    warehouse.append(week.outcomes, outcomes_table(said))
    whole = write.files(formats.source(week, choose.of_workspace(week, "support"), name), tmp_path / name)
    found, params, pages = b"", {"limit": "1"}, 0
    while True:
        got = asked.get(f"{PATH}/{name}", params=params)
        found, pages = found + got.content, pages + 1
        if "x-next-cursor" not in got.headers:
            break
        params["cursor"] = got.headers["x-next-cursor"]
    assert pages == len(TRAIN)
    assert found == (tmp_path / name / "train.jsonl").read_bytes()
    assert whole.written == (4 if name == "trl-dpo" else len(TRAIN) + 2)
    card = asked.get(f"{PATH}/{name}/card").json()
    assert (card["written"], card["left_out"]) == (whole.written, whole.left_out)
    if name == "trl-dpo":
        assert [json.loads(line)["rejected_trajectories"] for line in found.splitlines()] == [[f"u{n}"] for n in TRIED]
        strict = asked.get(f"{PATH}/trl-dpo", params={"probability": "1", "margin": "1"})
        assert [row["margin"] for row in rows(strict)] == [1.0, 1.0]


def test_what_trees_taught_goes_out_by_key_to_whom_it_came_of(asked: httpx.Client, week: Home):
    for policy, corpus, key in (("ours", "desk", "p"), ("theirs", "others", "q")):
        artifacts.write_json(week.policies / policy / "lineage.json", {"base": {}, "data": {"corpus": corpus}})
        forests.save(week.trees / key, boxes(), About(f"{policy}@1", Forest(environments=()), statistics([], 0.0, 0.0)))
        storage.save(week.pairs / key, branches(boxes(), Gates(decision_share=1.0)), Gates())
    whole = rows(asked.get(f"{PATH}/trl-dpo", params={"pairs": "p"}))
    first = asked.get(f"{PATH}/trl-dpo", params={"pairs": "p", "limit": "2"})
    rest = asked.get(first.links["next"]["url"])
    assert len(whole) == 3 and [*rows(first), *rows(rest)] == whole
    assert "x-next-cursor" not in rest.headers
    for where in (
        "nonsense",
        "true); COPY given TO '/tmp/x",
        "length(repeat(prompt, 1000000000)) > 0",
        "(SELECT true)",
    ):
        got = asked.get(f"{PATH}/trl-dpo", params={"pairs": "p", "where": where})
        assert (got.status_code, "filter" in got.json()["error"]["message"]) == (400, True), got.text
    for cursor in ("xx", "9" * 99, "٣"):
        sent = {"pairs": "p", "cursor": base64.urlsafe_b64encode(cursor.encode()).decode()}
        assert asked.get(f"{PATH}/trl-dpo", params=sent).status_code == 400
    card = asked.get(f"{PATH}/trl-dpo/card", params={"pairs": "p", "where": "margin < 0"}).json()
    assert (card["unit"], card["looked_at"], card["written"]) == ("pairs", 3, 0)
    records = rows(asked.get(f"{PATH}/step-records", params={"trees": "p"}))
    assert records and records[0]["response"]["role"] == "assistant"
    for name, params in (("trl-dpo", {"pairs": "q"}), ("step-records", {"trees": "q"})):
        assert asked.get(f"{PATH}/{name}", params=params).status_code == 404
