"""A server killed with SIGKILL while models are called through it: each answer that ended is stored, once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from flywheel import warehouse
from flywheel.capture.settling.settle import settle
from flywheel.schema import TRAJECTORIES
from flywheel.settings import Home
from flywheel_tests.server.upstream import Port, Say, Upstream

KILLS = 4
CLIENTS = 6
SERVE = "from flywheel.cli import main; main()"


def ask(base: str, name: str, number: int, ended: list[str]) -> None:
    """Call until the server is gone, whole and streamed in turns; `ended` are the questions whose answers ended."""
    with httpx.Client(timeout=20) as client:
        for turn in range(10_000):
            question = f"{name}-{number}-{turn}"
            body = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": turn % 2 == 0}
            try:
                answer = client.post(f"{base}/chat/completions", json=body)
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            ended.append(question)


@pytest.mark.slow  # servers are started and killed
def test_an_answer_that_ended_is_stored_once_whenever_the_server_is_killed(desk: Home, upstreams: Port) -> None:
    upstream = upstreams.add(Upstream(Say(text="Hello there.")))
    command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--openai", f"{upstream.url}/v1", "--json"]
    chance, ended = random.Random(7), list[str]()
    for kill in range(KILLS):
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"FLYWHEEL_HOME": str(desk.root)},
        )
        assert server.stdout
        url = json.loads(b"".join(iter(server.stdout.readline, b"}\n")) + b"}")["url"]
        asking = [
            threading.Thread(target=ask, args=(f"{url}/w/desk/v1", f"kill-{kill}", number, ended))
            for number in range(CLIENTS)
        ]
        for thread in asking:
            thread.start()
        known = len(ended)
        while len(ended) < known + CLIENTS:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.5)
        server.send_signal(signal.SIGKILL)
        for thread in asking:
            thread.join()
        server.wait()
        server.stdout.close()

    settle(desk, "desk", datetime.now(UTC) + timedelta(hours=1))

    rows = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    whole = Counter(row["steps"][0]["content"] for row in rows if row["end_state"] == "completed")
    assert len(ended) >= KILLS * CLIENTS
    assert {question: whole[question] for question in ended} == dict.fromkeys(ended, 1)
    assert max(Counter(row["steps"][0]["content"] for row in rows).values()) == 1
