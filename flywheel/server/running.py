"""What a running server holds: the data folder, its settings, and the writers of its workspaces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Self

from fastapi import Request

from flywheel.server.config import Config
from flywheel.settings import Home


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Running:
    """One server's state; routes get it by `Depends(running)`. What needs an end is entered on `ending`."""

    def __init__(self, home: Home, config: Config, clock: Callable[[], datetime] = utc_now) -> None:
        self.home, self.config, self.clock = home, config, clock
        self.ending = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ending.aclose()


def running(request: Request) -> Running:
    """The state of the server that a request came to."""
    return request.app.state.running
