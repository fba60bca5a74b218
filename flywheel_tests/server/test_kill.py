"""A server killed with SIGKILL under load: what it acknowledged is stored once, and nothing that nobody sent."""

from __future__ import annotations

import multiprocessing
import random
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture.journals import journal
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, Trajectory, trajectory_of
from flywheel.settings import Home
from flywheel_tests.server import load
from flywheel_tests.server.load import Model, Notes

CLIENTS = {"a": ["call"] * 5 + ["post"], "b": ["call"] * 3 + ["tell", "trace", "record"]}

# One that ships a spool leaves a full disk alone for as long as it is told to.
WITHOUT_SPOOL = {name: [kind for kind in kinds if kind != "record"] for name, kinds in CLIENTS.items()}


class Forker:
    """Where processes are asked for: one that has imported everything."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders

    def fork(self, what: str, *rest: Any) -> int:
        """A process that does something; its number."""
        return self._asked(what, *rest)

    def kill(self, process: int) -> int:
        """End a process with SIGKILL; it is gone on return."""
        return self._asked("kill", process)

    def wait(self, process: int) -> int:
        """How a process ended."""
        return self._asked("wait", process)

    def _asked(self, *order: Any) -> int:
        self._orders.send(order)
        return self._orders.recv()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=load.forks, args=(theirs,))
    process.start()
    yield Forker(ours)
    ours.send(None)
    process.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def ready(base: str, seconds: float = 60) -> float:
    """Wait for a server; how many seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(httpx.TransportError):
            assert httpx.get(f"{base}/health").status_code == 200
            return time.monotonic() - began
        time.sleep(0.005)
    raise AssertionError("the server did not start")


@pytest.mark.parametrize(("times", "servers"), [(8, 1), pytest.param(100, 2, marks=pytest.mark.slow)])
def test_a_server_killed_at_any_moment_loses_nothing_that_it_acknowledged(
    times: int, servers: int, desk: Home, forker: Forker, tmp_path: Path
) -> None:
    rng, model = random.Random(times), Model()
    ports = [free_port() for _ in range(servers)]
    bases = [f"http://127.0.0.1:{port}" for port in ports]
    config = tmp_path / "server.toml"
    config.write_text("idle_s = 0.4\nsettle_every_s = 0.2\n")
    with load.listening(model) as upstream:

        def start(port: int) -> int:
            return forker.fork("serve", desk.root, "--port", str(port), "--openai", upstream, "--config", str(config))

        serving = [start(port) for port in ports]
        sending = [forker.fork("clients", bases, tmp_path, name, kinds, 1) for name, kinds in CLIENTS.items()]
        for number in range(times):
            one = rng.randrange(servers)
            if number % 7 != 6:  # else it may be killed while it starts
                ready(bases[one])
            time.sleep(rng.uniform(0, 0.6))
            forker.kill(serving[one])
            serving[one] = start(ports[one])
        (tmp_path / "stop").touch()
        ended = [forker.wait(process) for process in sending]
        for server in serving:
            forker.kill(server)
    assert ended == [0 for _ in sending]
    notes = noted(tmp_path)
    assert sum(note.refused for note in notes) == 0
    check(desk, model, notes)


def test_a_disk_that_is_full_for_a_while_is_told_and_takes_nothing_from_what_is_there(
    desk: Home, forker: Forker, tmp_path: Path
) -> None:
    model, port = Model(), free_port()
    (tmp_path / "server.log").symlink_to("/dev/full")  # its log is on such a disk, too
    config = tmp_path / "server.toml"
    config.write_text("idle_s = 0.4\nsettle_every_s = 0.2\n")
    with load.listening(model) as upstream:
        options = ("--port", str(port), "--openai", upstream, "--config", str(config))
        server = forker.fork("serve", desk.root, *options)
        base = f"http://127.0.0.1:{port}"
        ready(base)
        sending = [forker.fork("clients", [base], tmp_path, name, kinds, 1) for name, kinds in WITHOUT_SPOOL.items()]
        for _ in range(3):
            time.sleep(0.5)
            # No file of it may grow beyond this: a line is torn where its journal reaches it.
            size = max((path.stat().st_size for path in journal.paths(desk.journals / "desk")), default=0)
            resource.prlimit(server, resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
            wait_for(503, base)
            time.sleep(0.3)
            resource.prlimit(server, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            wait_for(200, base)
        (tmp_path / "stop").touch()
        ended = [forker.wait(process) for process in sending]
        forker.kill(server)
    assert ended == [0 for _ in sending]
    notes = noted(tmp_path)
    assert sum(note.refused for note in notes) > 0
    check(desk, model, notes)
    assert warehouse.read(desk.quarantine, QUARANTINE, "desk").num_rows <= 1  # what the kill cut off


def wait_for(status: int, base: str) -> None:
    """Have the server write what says nothing until it answers so."""
    end = time.monotonic() + 30
    while httpx.post(f"{base}/w/desk/t/nobody/end").status_code != status:
        assert time.monotonic() < end


def noted(folder: Path) -> list[Notes]:
    """What the clients noted."""
    return [msgspec.json.decode((folder / name).read_bytes(), type=Notes) for name in CLIENTS]


def check(desk: Home, model: Model, notes: list[Notes]) -> None:
    """Store what is left; then all that was acknowledged is there once, and nothing that was not sent."""
    assert settle(desk, "desk", datetime.now(UTC) + timedelta(days=1)).waiting == 0
    assert journal.paths(desk.journals / "desk") == []

    stored = [trajectory_of(row) for row in warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()]
    assert max(Counter(t.id for t in stored).values()) == 1
    by_source: dict[str, list[Trajectory]] = {}
    for trajectory in stored:
        by_source.setdefault(trajectory.source, []).append(trajectory)
    calls_are_there(by_source.pop("gateway"), model, notes)
    spans_are_there(by_source.pop("otlp"), {id: said for note in notes for id, said in note.spans.items()})
    said = {id: steps for note in notes for id, steps in (note.posted | note.recorded).items()}
    rest = [trajectory for found in by_source.values() for trajectory in found]
    assert {t.id: [step.content for step in t.steps] for t in rest} == {
        id: [load.clean(text) for text in steps] for id, steps in said.items()
    }
    outcomes = Counter(warehouse.read(desk.outcomes, OUTCOMES, "desk")["trajectory_id"].to_pylist())
    assert outcomes == Counter(id for note in notes for id in [*note.outcomes, *note.recorded])
    assert set(warehouse.read(desk.quarantine, QUARANTINE, "desk")["error"].to_pylist()) <= {"the line was cut off"}


def calls_are_there(stored: list[Trajectory], model: Model, notes: list[Notes]) -> None:
    """Each answer that came whole is in one trajectory as its own, after what was asked, and nothing else is there."""
    asked = {load.clean(q): load.steps_of(messages) for note in notes for q, messages in note.asked.items()}
    given = {load.clean(q): [load.clean(text) for text in texts] for q, texts in model.given.items()}
    own: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for trajectory in stored:
        steps, about = load.said_in(trajectory), msgspec.json.decode(trajectory.metadata)
        assert "lost_before" not in about
        calls.update(about["exchanges"])
        for at, step in enumerate(trajectory.steps):
            exchange = msgspec.json.decode(step.metadata).get("exchange")
            if (
                exchange is None
            ):  # asked, or answered by a call that was stored with another and is gone from the journals
                assert at < len(steps) - 1 or step.role != "assistant"
                continue
            question = steps[at - 1][1]
            assert steps[:at] == asked[question]
            text = step.content or ""
            if text not in given[question]:
                assert trajectory.end_state == "partial" and at == len(steps) - 1
                # The last word of what was cut off is not kept: it may be half a secret.
                assert any(whole.startswith(text.removesuffix("…")) for whole in given[question])
            elif exchange in about["exchanges"]:
                own[text] += 1
        if steps[-1][0] != "assistant":
            assert trajectory.end_state in ("partial", "failed")
            assert steps == asked[steps[-1][1]]
    assert set(calls.values()) == {1}
    assert set(own.values()) == {1}
    acknowledged = {load.clean(text) for note in notes for _, texts in note.answered for text in texts}
    assert acknowledged <= own.keys()
    assert len(acknowledged) > 20


def spans_are_there(stored: list[Trajectory], spans: dict[str, list[str]]) -> None:
    """Each call of a model is in one trajectory as its own, after what was asked."""
    own: Counter[str] = Counter()
    for trajectory in stored:
        mine = msgspec.json.decode(trajectory.metadata)["exchanges"]
        own.update(mine)
        assert [step.content for step in trajectory.steps] == spans[mine[-1]]
    assert own == Counter(spans.keys())
