"""The recorder over HTTP: nothing leaves the spool before the server has it, whoever dies, and whenever."""

import gzip
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, access
from flywheel.capture.journals import journal
from flywheel.capture.journals.journal import Full
from flywheel.capture.recorders import shipping, shipping_thread, tail
from flywheel.capture.recorders.remote import RemoteRecorder
from flywheel.capture.recorders.sending import Server, Unreachable
from flywheel.capture.recorders.shipping import Shipper, ship
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError
from flywheel.settings import Home
from flywheel_tests.conftest import ROOT
from flywheel_tests.server.conftest import Live

LATER = datetime(2030, 1, 1, tzinfo=UTC)
Recording = Callable[..., RemoteRecorder]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping_thread, "EVERY", 0.05)


@pytest.fixture
def remotely(tmp_path: Path) -> Iterator[Recording]:
    """Call it with a server's URL for a recorder with a spool of the test's own; its thread ends with the test."""
    made: list[RemoteRecorder] = []

    def record(url: str, **about: Any) -> RemoteRecorder:
        made.append(Recorder.to(url, "desk", spool=tmp_path / "spool", agent="bot", **about))
        return made[-1]

    yield record
    for recorder in made:
        recorder.shipping.stop()


class Answers:
    """A server that gives prepared answers, then takes everything; it keeps what it was sent."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.left, self.sent, self.times = list(answers), [], []  # type: ignore[var-annotated]
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = outer.left.pop(0) if outer.left else (200, {}, b"")
                outer.times.append(time.monotonic())
                outer.headers.append(dict(self.headers))
                if status == 200:
                    outer.sent += [(self.path.rpartition("/")[2], json.loads(line)) for line in body.splitlines()]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer or b'{"accepted":1,"quarantined":[]}')

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def stored(home: Home) -> tuple[dict[str, list[str]], list[str]]:
    """The contents of each stored trajectory, and the trajectories of the ledger, with repetitions."""
    settle(home, "desk", LATER)
    rows = warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()
    assert len(rows) == len({row["id"] for row in rows})
    said = {row["id"]: [step["content"] for step in row["steps"]] for row in rows}
    return said, sorted(warehouse.read(home.outcomes, OUTCOMES, "desk")["trajectory_id"].to_pylist())


def test_what_is_recorded_elsewhere_is_stored_here(live: Live, desk: Home, remotely: Recording) -> None:
    access.issue(desk, "desk", ["admin"], name="admin")
    token, _ = access.issue(desk, "desk", ["capture"], name="agent")
    recorder = remotely(live(desk), token=token, agent_version="7", model="m")
    with recorder.trajectory(task_id="1", id="one") as t:
        t.step(role="user", content="I am ann@x.org")
        t.outcome("fine", 1.0, source="checker", step_index=0, comment="yes")
    recorder.outcome("zero", "reopened", 0.0, observed_at=LATER)
    recorder.close()
    assert recorder.flush()
    assert journal.paths(recorder.spool.journals / "desk") == []
    assert stored(desk) == ({"one": ["I am <EMAIL>"]}, ["one", "zero"])
    [row] = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    assert (row["agent"], row["agent_version"], row["model"], row["source"]) == ("bot", "7", "m", "recorder")


def test_a_server_that_is_away_gets_all_when_it_is_back(
    live: Live, desk: Home, tmp_path: Path, remotely: Recording
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
    recorder = remotely(away)
    for number in range(3):
        with recorder.trajectory(task_id="1", id=f"t-{number}") as t:
            t.step(role="user", content="Hello")
    recorder.close()
    assert not recorder.flush(0.2)
    assert "cannot be reached" in recorder.shipping.trouble
    recorder.shipping.stop()

    assert ship(tmp_path / "spool", live(desk), None)["desk"].trajectories == 3
    assert stored(desk)[0].keys() == {"t-0", "t-1", "t-2"}
    assert ship(tmp_path / "spool", live(desk), None)["desk"].trajectories == 0


def test_what_goes_on_is_sent_when_it_ends_and_what_a_dead_agent_left_as_partial(
    live: Live, desk: Home, remotely: Recording
) -> None:
    recorder = remotely(live(desk))
    with recorder.trajectory(task_id="1", id="one") as t:
        t.step(role="user", content="Hello")
        assert recorder.flush()
        assert stored(desk) == ({}, [])
        t.step(role="assistant", content="Hi")
    assert recorder.flush()
    assert stored(desk)[0] == {"one": ["Hello", "Hi"]}


def test_a_server_is_asked_again_when_it_says_so(remotely: Recording) -> None:
    with closing(Answers((429, {"Retry-After": "1"}, b""), (503, {}, b""), (500, {}, b"oops"))) as server:
        recorder = remotely(server.url)
        recorder.outcome("a", "s", 1.0)
        assert recorder.flush(10)
        assert server.times[1] - server.times[0] >= 1
        assert [kind for kind, _ in server.sent] == ["outcomes"]
        assert not recorder.shipping.trouble


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, b'{"error": {"message": "the token has expired"}}', "401: the token has expired"),
        (403, b"no", "403"),
        (400, b'{"error": []}', "400"),
        (302, b"", "302"),
        (200, b"<html>", "as no flywheel server does"),
    ],
)
def test_a_server_that_says_no_stops_the_shipping_and_the_spool_keeps_all(
    remotely: Recording, caplog: pytest.LogCaptureFixture, status: int, answer: bytes, said: str
) -> None:
    with caplog.at_level(logging.ERROR, "flywheel"), closing(Answers((status, {"Location": "/"}, answer))) as server:
        recorder = remotely(server.url, token="fw_x")
        recorder.outcome("a", "s", 1.0)
        recorder.close()
        assert not recorder.flush(10)
        assert recorder.shipping.stopped
        assert said in caplog.text
        assert "flywheel ship --spool" in caplog.text
        assert len(journal.paths(recorder.spool.journals / "desk")) == 1
        assert server.headers[0]["Authorization"] == "Bearer fw_x"
        again = remotely(server.url)
        assert again.flush()
        assert len(server.sent) == 1 + (status == 200)


def test_an_acknowledgement_that_got_lost_costs_nothing_but_a_repetition(tmp_path: Path, desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1", id="one") as t:
        t.step(role="user", content="Hello")
    with closing(Answers((500, {}, b""))) as server:
        shipper = Shipper(desk, Server(server.url, "desk", None))
        with pytest.raises(Unreachable):
            shipper.ship()
        with recorder.trajectory(task_id="1", id="two") as t:
            t.step(role="user", content="Hello")
        assert shipper.ship().trajectories == 2
        assert shipper.ship() == shipping.Shipped()
        recorder.close()
        assert shipper.ship() == shipping.Shipped(journals_removed=1)
        assert [record["id"] for _, record in server.sent] == ["one", "two"]


def test_large_spools_go_in_parts(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "BODY", 1_000)
    monkeypatch.setattr(tail, "CHUNK", 700)
    with closing(Recorder(desk, "desk", agent="bot")) as recorder:
        for number in range(10):
            with recorder.trajectory(task_id="1", id=f"t-{number}") as t:
                t.step(role="user", content="x" * 300)
    with closing(Answers((200, {}, b""), (503, {}, b""))) as server:
        shipper = Shipper(desk, Server(server.url, "desk", None))
        with pytest.raises(Unreachable):
            shipper.ship()
        shipper.ship()
        assert [record["id"] for _, record in server.sent] == [f"t-{number}" for number in range(10)]
        assert len(server.times) > 3


def test_a_torn_line_and_a_trajectory_without_an_end_do_not_hold_up_the_others(desk: Home) -> None:
    with closing(Recorder(desk, "desk", agent="bot")) as recorder:
        recorder.outcome("a", "s", 1.0)
    [path] = journal.paths(desk.journals / "desk")
    began = {"event": "began", "trajectory": _header("open")}
    said = {"event": "said", "id": "open", "at": "2026-01-05T12:00:00Z", "step": {"role": "user", "content": "Hi"}}
    path.write_bytes(path.read_bytes() + b"\n".join([json.dumps(began).encode(), json.dumps(said).encode(), b'{"ev']))
    with closing(Answers((503, {}, b""), (503, {}, b""))) as server:
        shipper = Shipper(desk, Server(server.url, "desk", None))
        for _ in range(2):
            with pytest.raises(Unreachable):
                shipper.ship()
        assert shipper.ship().trajectories == 1
        sent = dict(server.sent)
        assert len(server.sent) == 2
        assert (sent["trajectories"]["end_state"], len(sent["trajectories"]["steps"])) == ("partial", 1)
    assert path.with_suffix(".torn").read_bytes() == b'{"ev'


def test_what_a_dead_agent_left_goes_in_parts_too(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "BODY", 2_000)
    monkeypatch.setattr(shipping, "RECORDS", 4)
    folder = desk.journals / "desk"
    folder.mkdir(parents=True)
    began = [{"event": "began", "trajectory": _header(f"open-{number}")} for number in range(10)]
    (folder / "dead.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in began))
    with closing(Answers((503, {}, b""))) as server:
        shipper = Shipper(desk, Server(server.url, "desk", None))
        with pytest.raises(Unreachable):
            shipper.ship()
        assert shipper.ship().trajectories == 10
        assert {record["id"] for _, record in server.sent} == {f"open-{number}" for number in range(10)}
        assert len(server.times) == 1 + 3


@pytest.mark.parametrize("answer", [b'{"quarantined": null}', b"[]", b"{}", b"\xff"])
def test_what_no_flywheel_answers_stops_the_shipping_with_a_word(remotely: Recording, answer: bytes) -> None:
    with closing(Answers((200, {}, answer))) as server:
        recorder = remotely(server.url)
        recorder.outcome("a", "s", 1.0)
        assert not recorder.flush(10)
        assert recorder.shipping.stopped
        assert "is the address right?" in recorder.shipping.trouble


def test_an_error_that_nobody_expected_stops_the_shipping_with_a_word(
    remotely: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: Shipper) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Shipper, "ship", fails)
    recorder = remotely("http://127.0.0.1:9")
    recorder.outcome("a", "s", 1.0)
    assert not recorder.flush(10)
    assert recorder.shipping.stopped
    assert "ZeroDivisionError: oops; all is kept in" in caplog.text


@pytest.mark.filterwarnings("ignore:lance is not fork-safe:UserWarning")  # which other tests have imported
def test_a_fork_ships_what_it_records_whatever_its_parent_was_at(remotely: Recording) -> None:
    with closing(Answers()) as server:
        recorder = remotely(server.url)
        held, done = Event(), Event()

        def begin() -> None:
            with shipping_thread._STARTING, recorder.shipping._passed:
                held.set()
                done.wait(30)

        Thread(target=begin).start()
        held.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(20)
            own = remotely(server.url)
            own.outcome("child", "s", 1.0)
            own.close()
            os._exit(0 if own.flush(0.1) or own.shipping.elsewhere else 1)  # its parent ships already
        done.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert recorder.flush(10)
        assert [record["trajectory_id"] for _, record in server.sent] == ["child"]


def test_shipping_can_be_stopped_while_a_server_is_left_alone(remotely: Recording) -> None:
    with closing(Answers((503, {"Retry-After": "600"}, b""))) as server:
        recorder = remotely(server.url)
        recorder.outcome("a", "s", 1.0)
        while not server.times:
            time.sleep(0.01)
        began = time.monotonic()
        recorder.shipping.stop()
        assert time.monotonic() - began < 10


def _header(id: str) -> dict[str, Any]:
    names = ("task_id", "task_group", "task_type", "agent", "source")
    return dict.fromkeys(names, "x") | {
        "id": id, "workspace": "desk", "end_state": "partial", "arrived_at": "2026-01-05T12:00:00Z", "steps": [],
    }  # fmt: skip


def test_a_full_spool_says_so_and_lets_what_has_begun_end(remotely: Recording) -> None:
    recorder = remotely("http://127.0.0.1:9", bound=1_000)
    recorder.outcome("a", "s", 1.0)
    assert not recorder.flush(0.3)
    with pytest.raises(Full, match=r"may have 1,000; .*cannot be reached"), recorder.trajectory(task_id="1") as t:
        for _ in range(100):
            t.step(role="user", content="x" * 200)
    assert t.ended


def test_a_small_spool_takes_any_number_of_records_while_the_server_does(remotely: Recording) -> None:
    with closing(Answers()) as server:
        recorder = remotely(server.url, bound=20_000)
        for number in range(60):
            with recorder.trajectory(task_id="1", id=f"t-{number}") as t:
                t.step(role="user", content="x" * 500)
            if number % 5 == 0:
                assert recorder.flush(10)
        assert recorder.flush(10)
        assert {record["id"] for _, record in server.sent} == {f"t-{number}" for number in range(60)}


def test_a_script_that_ends_has_shipped_what_it_recorded(live: Live, desk: Home, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom flywheel.capture import Recorder\n"
        "recorder = Recorder.to(sys.argv[1], 'desk', spool=sys.argv[2], agent='bot')\n"
        "with recorder.trajectory(task_id='1', id='one') as t:\n    t.step(role='user', content='Hello')\n"
    )
    subprocess.run([sys.executable, "-c", code, live(desk), str(tmp_path / "spool")], cwd=ROOT, check=True, timeout=60)
    assert stored(desk)[0] == {"one": ["Hello"]}


def test_recorders_share_a_spool_and_its_server(remotely: Recording, tmp_path: Path) -> None:
    with closing(Answers()) as server:
        one, two = remotely(server.url), remotely(server.url)
        assert one.shipping is two.shipping
        two.outcome("a", "s", 1.0)
        assert one.flush()
        with pytest.raises(FlywheelError, match="a spool of its own"):
            remotely("http://127.0.0.1:9")
        with pytest.raises(FlywheelError, match="a living recorder ships"):
            ship(tmp_path / "spool", server.url, None)
    with pytest.raises(FlywheelError, match="is no spool"):
        ship(tmp_path / "nothing", server.url, None)
    with pytest.raises(FlywheelError, match="no server's address"):
        Server("flywheel.example.org", "desk", None)


@pytest.mark.slow  # several processes are started and killed
def test_agents_and_servers_are_killed_and_nothing_acknowledged_is_lost(desk: Home, tmp_path: Path) -> None:
    dice = random.Random(7)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"FLYWHEEL_HOME": str(desk.root)}

    def serve() -> subprocess.Popen[str]:
        code = "from flywheel.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--port", str(port)]
        with (tmp_path / "server.log").open("a") as errors:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=errors, text=True)

    def agent(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flywheel_tests.server.agent", url, str(tmp_path / "spool"), name]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    said: list[str] = []
    server = serve()
    for turn in range(3):
        agents = [agent(f"{turn}-{n}") for n in range(2)]
        first = [one.stdout.readline() for one in agents if one.stdout]
        time.sleep(0.5 + dice.random())
        server.send_signal(signal.SIGKILL)
        server.wait()
        time.sleep(dice.random())
        server = serve()
        time.sleep(1 + dice.random())
        for one in agents:
            one.send_signal(signal.SIGKILL)
        said += "".join(first + [one.communicate()[0] for one in agents]).split("\n")[:-1]
    try:
        shipping.ship_for(tmp_path / "spool", url, None, 60, lambda _: None)
    finally:
        server.terminate()
        server.wait(60)
    trajectories, outcomes = stored(desk)
    acknowledged = {line for line in said if line in trajectories or line.count("-") == 2}
    assert len(acknowledged) > 6
    assert acknowledged <= trajectories.keys()
    assert acknowledged <= set(outcomes)
    assert len(outcomes) == len(set(outcomes))
    assert journal.paths(tmp_path / "spool" / "journals" / "desk") == []
