"""`flywheel serve` as a process: it tells where it is, refuses what it may not do, and ends in peace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from flywheel.capture import access, workspaces
from flywheel.capture.journals import journal
from flywheel.cli import app
from flywheel.corpus.query import query
from flywheel.schema import FlywheelError
from flywheel.server.config import Config, checked, load
from flywheel.server.serving import bound
from flywheel.settings import Home

ONE = {"id": "one", "task_id": "t", "agent": "a", "steps": [{"role": "user", "content": "a word that is secret"}]}


@pytest.fixture
def desk(home: Home) -> Home:
    """A data folder with a workspace named `desk`."""
    workspaces.create(home, "desk")
    return home


class Server:
    """A server in a process of its own."""

    def __init__(self, home: Home, *options: str) -> None:
        self.log = home.root.parent / "log"
        command = [
            sys.executable,
            "-c",
            "from flywheel.cli import main; main()",
            "serve",
            "--port=0",
            "--json",
            *options,
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"FLYWHEEL_HOME": str(home.root)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        text = ""
        while not text.rstrip().endswith("\n}"):
            line = self.process.stdout.readline()
            assert line, self.log.read_text()
            text += line
        self.told: dict[str, Any] = json.loads(text)
        self.url: str = self.told["url"]
        self.trajectories = f"{self.url}/api/v1/workspaces/desk/trajectories"

    def stop(self, sent: int = signal.SIGTERM) -> int:
        """Tell it to stop; how it ended."""
        self.process.send_signal(sent)
        return self.process.wait(30)


@contextmanager
def server(home: Home, *options: str) -> Iterator[Server]:
    """A server while the block lasts."""
    running = Server(home, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout
        running.process.stdout.close()


def test_a_server_tells_where_it_is_and_ends_in_peace(desk: Home) -> None:
    with server(desk) as running:
        assert running.told["workspaces"] == [
            {
                "workspace": "desk",
                "OPENAI_BASE_URL": f"{running.url}/w/desk/v1",
                "ANTHROPIC_BASE_URL": f"{running.url}/w/desk",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"{running.url}/w/desk/otlp",
                "api": f"{running.url}/api/v1/workspaces/desk",
            }
        ]
        assert httpx.post(running.trajectories, json=ONE).json() == {"accepted": 1, "quarantined": []}
        assert running.stop() == 0
        assert "stopping: what is under way has 30 s to end" in running.log.read_text()

    assert query(desk, "SELECT id FROM trajectories").rows == [("one",)]
    assert journal.paths(desk.journals / "desk") == []


def test_what_was_acknowledged_survives_a_kill(desk: Home) -> None:
    with server(desk) as running:
        httpx.post(running.trajectories, json=ONE)
        running.process.kill()
        running.process.wait()
    with server(desk) as again:  # and a server that comes after it stores it
        again.stop()

    assert query(desk, "SELECT id FROM trajectories").rows == [("one",)]


def test_two_servers_share_a_data_folder(desk: Home) -> None:
    with server(desk) as first, server(desk) as second:
        for of, id in ((first, "a"), (second, "b"), (first, "b")):
            httpx.post(of.trajectories, json=ONE | {"id": id})
        first.stop()
        second.stop()

    assert query(desk, "SELECT id FROM trajectories ORDER BY id").rows == [("a",), ("b",)]


def test_a_stopping_server_waits_for_an_answer_under_way(desk: Home) -> None:
    with server(desk) as running:
        place = httpx.URL(running.url)
        with socket.create_connection((place.host, place.port or 0)) as connection:
            body = json.dumps(ONE).encode()
            head = f"POST {httpx.URL(running.trajectories).path} HTTP/1.1\r\nHost: {place.host}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100")  # it waits for the body
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(body)
            with connection.makefile("rb") as answer:
                assert answer.read().endswith(b'{"accepted":1,"quarantined":[]}')
        assert running.process.wait(30) == 0

    assert query(desk, "SELECT id FROM trajectories").rows == [("one",)]


def test_the_log_holds_nothing_that_anybody_sent(desk: Home) -> None:
    token, _ = access.issue(desk, "desk", ["admin"], name="me")
    with server(desk, "--log-json") as running:
        httpx.post(running.trajectories, json=ONE, headers={"Authorization": f"Bearer {token}"})
        httpx.get(f"{running.trajectories}/secret-in-path?agent=secret-in-query", headers={"X-Flywheel-Token": token})
        httpx.get(f"{running.url}/secret-nowhere/{token}", headers={"X-Api-Key": "secret-key", "Cookie": "secret"})
        httpx.post(running.trajectories, content=b"{secret-body", headers={"Content-Type": "application/json"})
        assert running.stop(signal.SIGINT) == 0
        log = running.log.read_text()

    assert token not in log and "secret" not in log
    told = [line for line in map(json.loads, log.splitlines()) if line["message"] == "request"]
    assert [(line["route"], line["status"]) for line in told if "route" in line] == [
        ("/api/v1/workspaces/{workspace}/trajectories", 200),
        ("/api/v1/workspaces/{workspace}/trajectories/{id:path}", 404),
        ("/api/v1/workspaces/{workspace}/trajectories", 401),
    ]


def test_a_port_that_is_taken_is_told(desk: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(FlywheelError, match=r"is taken.*--port"):
        bound(desk, Config(port=other.getsockname()[1]))


def test_what_nobody_guards_is_not_served_to_others(desk: Home) -> None:
    with pytest.raises(FlywheelError, match=r"could use desk: make tokens first"):
        bound(desk, Config(host="0.0.0.0", port=0))
    access.issue(desk, "desk", ["admin"], name="me")
    bound(desk, Config(host="0.0.0.0", port=0)).close()


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 9000\nopenai = "http://127.0.0.1:8000/v1"\n')
    assert load(file) == Config(port=9000, openai="http://127.0.0.1:8000/v1")

    for wrong in ("prot = 9000", 'port = "x"', "port = "):
        file.write_text(wrong)
        with pytest.raises(FlywheelError, match="no configuration of the server"):
            load(file)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "127.0.0.1:8000/v1", "/v1", "http://", "ftp://host/v1", "http://h:x/v1"]
)
def test_an_upstream_that_is_no_url_is_refused_before_anything_is_served(url: str) -> None:
    with pytest.raises(FlywheelError, match=r"openai is .* write it as http://127.0.0.1:8000/v1"):
        checked(Config(openai=url))
    with pytest.raises(FlywheelError, match=r"anthropic is .* write it as https://api.anthropic.com"):
        checked(Config(anthropic=url))


def test_a_server_says_to_people_where_calls_go_and_no_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    monkeypatch.setattr("flywheel.server.logs.configure", lambda json: None)
    monkeypatch.setattr("flywheel.server.serving.serve", lambda home, config, began: began("http://127.0.0.1:8787"))
    told = CliRunner().invoke(app, ["serve", "--openai", "http://me:secret@127.0.0.1:8000/v1?key=secret"])
    assert told.exit_code == 0
    assert "calls of models go on to http://127.0.0.1:8000/v1 and https://api.anthropic.com" in " ".join(
        told.stderr.split()
    )
    assert "secret" not in told.stderr
    told = CliRunner().invoke(app, ["serve", "--champion"])
    assert "calls of models go on to the champion and https://api.anthropic.com" in " ".join(told.stderr.split())


def test_a_log_in_json_has_nothing_else(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    monkeypatch.setattr("flywheel.server.logs.configure", lambda json: None)
    monkeypatch.setattr("flywheel.server.serving.serve", lambda home, config, began: began("http://127.0.0.1:8787"))
    with caplog.at_level("INFO", "flywheel.server"):
        told = CliRunner().invoke(app, ["serve", "--log-json"])
    assert (told.exit_code, told.stdout, told.stderr) == (0, "", "")
    [line] = caplog.records
    assert line.getMessage() == "serving"
    assert line.__dict__["fields"] == {"home": str(home.root), "url": "http://127.0.0.1:8787"}
