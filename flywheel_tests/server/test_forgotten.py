"""A person is forgotten while the server runs: what is under way, traced, told and refused goes, and stays away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from flywheel import warehouse
from flywheel.capture import Recorder
from flywheel.capture.recorders import shipping_thread
from flywheel.capture.settling.settle import settle
from flywheel.cli import app
from flywheel.schema import TRAJECTORIES
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.capture.importers.test_otlp import request, span
from flywheel_tests.server.conftest import Through, serving
from flywheel_tests.server.upstream import Port, Say, Upstream

LATER = datetime.now(UTC) + timedelta(days=365)
JANE = "Jane Doe"


def forget(home: Home, *more: str) -> dict[str, Any]:
    """`flywheel forget`, as somebody calls it beside the server."""
    given = ["forget", "--subject", JANE, "--workspace", "desk", "--yes", "--json", *more]
    result = CliRunner().invoke(app, given, env={"FLYWHEEL_HOME": str(home.root)})
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)[0]


def holds(folder: Path) -> list[str]:
    """The files that say the name as it was written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path.relative_to(folder)) for path in files if JANE.encode() in path.read_bytes()]


def stored(home: Home) -> list[dict[str, Any]]:
    settle(home, "desk", LATER)
    return warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()


class Agent:
    """A conversation with a model through the gateway, told whole with each call."""

    def __init__(self, base: str, **headers: str) -> None:
        self.base, self.headers, self.said = base, headers, list[dict[str, str]]()

    def say(self, text: str) -> None:
        self.said.append({"role": "user", "content": text})
        asked = {"model": "m", "messages": self.said}
        answer = httpx.post(f"{self.base}/chat/completions", json=asked, headers=self.headers)
        self.said.append({"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]})


def traced(url: str, text: str, number: int) -> None:
    said = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps([{"role": "user", "content": text}])}
    one = span(
        said | {"gen_ai.output.messages": '[{"role": "assistant", "content": "Hm."}]'}, f"{number:016x}", "7" * 32
    )
    assert httpx.post(f"{url}/otlp/v1/traces", json=request(one)).status_code == 200


def test_all_that_the_server_has_of_a_person_goes_and_does_not_come_back(through: Through, desk: Home) -> None:
    base = through(Upstream(Say(text="Hello there.")))
    url = base.removesuffix("/v1")
    api = url.replace("/w/", "/api/v1/workspaces/")
    agents = {
        "unnamed": Agent(base),
        "named": Agent(f"{url}/t/run-7/v1"),
        "by its name": Agent(base, **{"X-Flywheel-Trajectory": f"ticket of {JANE}"}),
        "another": Agent(base),
    }
    for name, agent in agents.items():
        agent.say("I am Ann" if name in ("another", "by its name") else f"I am {JANE} ({name})")
        agent.say("Go on.")
    traced(url, f"{JANE} asks", 1)
    steps = [{"role": "user", "content": "Hi"}]
    posted = [{"id": id, "task_id": "1", "agent": "a", "steps": steps} for id in ("p-1", "p-2")]
    posted.append({"id": "p-3", "task_id": "1", "agent": "a", "steps": [{"role": "user", "content": f"It is {JANE}"}]})
    assert httpx.post(f"{api}/trajectories", json=posted).json()["accepted"] == 3
    told = {"trajectory_id": "p-1", "signal": "resolved", "value": 1, "comment": f"{JANE} called", "key": "k"}
    assert httpx.post(f"{api}/outcomes", json=told).json()["accepted"] == 1
    assert httpx.post(f"{api}/outcomes", json={"trajectory_id": JANE}).json()["accepted"] == 0

    done = forget(desk)
    assert done["counts"]["trajectories"] == 6
    assert holds(desk.root) == []

    for agent in agents.values():  # they go on, as do the trace and those who send again
        agent.say("And now?")
    traced(url, "More of it", 2)
    httpx.post(f"{api}/trajectories", json=posted)
    httpx.post(f"{api}/outcomes", json=told)
    rows = stored(desk)
    assert sorted(row["id"] for row in rows if row["source"] == "http") == ["p-2"]
    [other] = [row for row in rows if row["source"] != "http"]
    assert [step["content"] for step in other["steps"]][::2] == ["I am Ann", "Go on.", "And now?"]
    assert holds(desk.root) == []


def test_a_conversation_without_a_name_is_a_new_one_where_its_beginning_is_not_known_any_more(
    desk: Home, upstreams: Port
) -> None:
    """The agent tells it whole again: to forget it, the agent must forget it, too."""
    upstream = upstreams.add(Upstream(Say(text="Hello there.")))
    config = Config(openai=f"{upstream.url}/v1", settle_every_s=3600)
    with serving(desk, config) as url:
        unnamed, named = Agent(f"{url}/w/desk/v1"), Agent(f"{url}/w/desk/t/run-7/v1")
        for agent in (unnamed, named):
            agent.say(f"I am {JANE}")
        forget(desk)
    with serving(desk, config) as url:
        unnamed.base, named.base = f"{url}/w/desk/v1", f"{url}/w/desk/t/run-7/v1"
        for agent in (unnamed, named):
            agent.say("Well?")
    [row] = stored(desk)
    assert [step["content"] for step in row["steps"]][::2] == [f"I am {JANE}", "Well?"]
    forget(desk)
    assert stored(desk) == [] and holds(desk.root) == []


def test_what_a_spool_holds_is_forgotten_there(desk: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping_thread, "EVERY", 0.05)
    spool = Home(tmp_path / "spool")
    with serving(desk, Config(settle_every_s=3600)) as url:
        recorder = Recorder.to(url, "desk", spool=spool.root, agent="bot")
        with recorder.trajectory(task_id="1", id="under-way") as under_way:
            under_way.step(role="user", content=f"It is {JANE}")
            with recorder.trajectory(task_id="2", id="there") as t:
                t.step(role="user", content=f"It is {JANE}, too")
            assert recorder.flush(30)

            assert forget(desk)["counts"]["trajectories"] == 1, "the server knows of what it was sent"
            assert forget(spool)["counts"]["trajectories"] == 2
            assert holds(spool.root) == [] == holds(desk.root)
            under_way.step(role="user", content="Well?")  # its recorder lives on, and what ends is not sent
        with recorder.trajectory(task_id="3", id="another") as t:
            t.step(role="user", content="It is Ann")
        assert recorder.flush(30)
        recorder.close()
        recorder.shipping.stop()
    assert [row["id"] for row in stored(desk)] == ["another"]
    assert holds(desk.root) == []
