"""A server that is told to stop: streams under way come to their end, or are kept as far as they came."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from flywheel.capture.journals import journal
from flywheel.corpus.query import query
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.server.conftest import serving
from flywheel_tests.server.upstream import Port, Say, Upstream

ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(("goes_on", "state", "end"), [(True, "completed", b"[DONE]\n\n"), (False, "partial", b"!")])
def test_a_stream_comes_to_its_end_or_is_kept_as_far_as_it_came(
    goes_on: bool, state: str, end: bytes, desk: Home, upstreams: Port
) -> None:
    upstream = upstreams.add(Upstream(Say(text="Hello there, and so on."), stepwise=True))
    upstream.step(3)
    begun, got = threading.Event(), bytearray()

    def listen(url: str) -> None:
        with httpx.stream("POST", url, json=ASKED, timeout=30) as answer:
            try:
                for piece in answer.iter_bytes():
                    got.extend(piece)
                    if b"content" in got:
                        begun.set()
            except httpx.RemoteProtocolError:
                got.extend(b"!")

    config = Config(openai=f"{upstream.url}/v1", stop_s=2, idle_s=0, settle_every_s=3600)
    with serving(desk, config) as base:
        client = threading.Thread(target=listen, args=(f"{base}/w/desk/v1/chat/completions",))
        client.start()
        assert begun.wait(20)
        if goes_on:
            threading.Timer(0.5, upstream.step, [100]).start()
        began = time.monotonic()
    client.join(20)

    assert time.monotonic() - began < 15
    assert got.endswith(end)
    [(stored,)] = query(desk, "SELECT end_state FROM trajectories").rows
    assert stored == state
    assert journal.paths(desk.journals / "desk") == []
