"""Serving: the application on a port, until it is told to stop."""

from __future__ import annotations

import errno
import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from flywheel.capture import access, workspaces
from flywheel.schema import FlywheelError
from flywheel.server.access import loopback
from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.server.connection import FILES, with_settings
from flywheel.settings import Home

SWITCH_S = 0.0005

log = logging.getLogger(__name__)


def serve(home: Home, config: Config, began: Callable[[str], None]) -> None:
    """Answer requests over a data folder until SIGTERM or SIGINT; `began` is told the base URL once it listens.

    Then no request is taken any more, those under way have `stop_s` to end, and what has ended is stored. A second
    signal ends it at once: what was acknowledged is on disk all the same. Any number of servers, recorders and commands
    may use one data folder at the same time; bounds on rates hold for each server alone.

    Raises:
        FlywheelError: when it may not or cannot listen there.
    """
    listening = bound(home, config)
    _open_more()
    host, port = listening.getsockname()[:2]
    app = create_app(home, config)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    Server(uvicorn.Config(app, **options(config)), lambda: began(url)).run(sockets=[listening])


def _open_more() -> None:
    """Have as many files open as this machine lets a process have, up to `FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # some systems let a process have fewer than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def bound(home: Home, config: Config) -> socket.socket:
    """A socket at the address of a configuration.

    Raises:
        FlywheelError: when the address is taken or not this machine's, or others could reach a workspace that nobody
            guards.
    """
    open_to_all = [name for name in workspaces.names(home) if not access.guarded(home, name)]
    if open_to_all and not loopback(config.host):
        raise FlywheelError(
            f"others could reach {config.host}, and whoever does could use {', '.join(open_to_all)}: make tokens first "
            f"(flywheel token create -w {open_to_all[0]} --role admin --name NAME), or serve on 127.0.0.1"
        )
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise FlywheelError(
            f"port {config.port} of {config.host} is taken: stop what listens there, or choose another with --port"
            if taken
            else f"{config.host} port {config.port} is nothing to listen on here ({error})"
        ) from error


def options(config: Config) -> dict[str, Any]:
    """How uvicorn is set up: fast, silent about paths and queries, and patient with answers under way when it stops."""
    return {
        "http": with_settings(config),
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": config.keep_alive_s,
        "timeout_graceful_shutdown": config.stop_s,
    }


class Server(uvicorn.Server):
    """Uvicorn's server, which says when it listens, attends to streams first, and ends in peace when told to stop."""

    def __init__(self, config: uvicorn.Config, began: Callable[[], None]) -> None:
        super().__init__(config)
        self._began = began

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        # What is loaded stays: to look through it again and again for garbage would hold every stream up.
        gc.collect()
        gc.freeze()
        # Settling and parsing in other threads give way to the loop in less than a millisecond.
        sys.setswitchinterval(SWITCH_S)
        self._began()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and let go of all there is."""
        patience = self.config.timeout_graceful_shutdown
        log.info("stopping: what is under way has %s s to end; a second signal ends it at once", patience)
        await super().shutdown(sockets)
        gc.unfreeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second time, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
