"""Serving: the application on a port, until it is told to stop."""

from __future__ import annotations

from typing import Any

from flywheel.server.config import Config
from flywheel.server.connection import with_settings


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
