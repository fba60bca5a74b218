"""A server of the test's own, on a port of its own, and a workspace on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from flywheel.capture import workspaces
from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.server.serving import options
from flywheel.settings import Home
from flywheel_tests.server.upstream import Port, Upstream

Live = Callable[..., str]
Through = Callable[..., str]


@contextmanager
def serving(home: Home, config: Config | None = None) -> Iterator[str]:
    """A server over a data folder in a thread of this process, while the block lasts; gives its base URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(home, config)
    server = uvicorn.Server(uvicorn.Config(app, **options(config or Config())))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def live() -> Iterator[Live]:
    """Call it with a data folder (and a Config) for the base URL of a server on it; it stops with the test."""
    with ExitStack() as running:
        yield lambda home, config=None: running.enter_context(serving(home, config))


@pytest.fixture
def desk(home: Home) -> Home:
    """A data folder with a workspace named `desk`."""
    workspaces.create(home, "desk")
    return home


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Port]:
    """Where scripted upstreams are served."""
    with Port().open() as port:
        yield port


@pytest.fixture
def through(live: Live, desk: Home, upstreams: Port) -> Through:
    """Call it with an upstream for the base URL of its gateway, workspace `desk` and `/v1` included."""

    def start(upstream: Upstream, **config: Any) -> str:
        url = upstreams.add(upstream).url
        return live(desk, Config(openai=f"{url}/v1", anthropic=url, settle_every_s=3600, **config)) + "/w/desk/v1"

    return start
