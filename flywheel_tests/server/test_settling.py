"""Settling beside a server: what fails in one workspace keeps no other from it, and a full disk is waited for."""

from __future__ import annotations

import asyncio
import errno
import logging
from datetime import datetime, timedelta

import pytest

from flywheel.capture import workspaces
from flywheel.capture.settling.settle import Settled
from flywheel.capture.settling.settle import settle as settle_one
from flywheel.server import settling
from flywheel.server.config import Config
from flywheel.server.running import Running
from flywheel.settings import Home


@pytest.fixture
def running(home: Home) -> Running:
    """A server's state over three workspaces."""
    for name in ("a", "b", "c"):
        workspaces.create(home, name)
    return Running(home, Config(settle_every_s=0.01, idle_s=60))


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Let settling `b` fail; gives the workspaces that are settled."""
    seen: list[str] = []

    def settle(home: Home, workspace: str, now: datetime, idle: timedelta) -> Settled:
        assert idle == timedelta(seconds=60)
        seen.append(workspace)
        if workspace == "b":
            raise error
        return settle_one(home, workspace, now, idle)

    monkeypatch.setattr(settling, "settle", settle)
    return seen


def test_what_fails_keeps_no_other_workspace_from_it(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = failing(monkeypatch, KeyError("what somebody wrote"))

    assert settling.settle_all(running)
    assert seen == ["a", "b", "c"]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "settling b failed: KeyError at test_settling.py" in record.getMessage()
    assert "what somebody wrote" not in record.getMessage()


def test_it_goes_on_when_workspaces_could_not_be_listed_for_a_while(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Home] = []

    def names(home: Home) -> list[str]:
        asked.append(home)
        raise ConnectionError("the store is away")

    monkeypatch.setattr(workspaces, "names", names)

    async def a_while() -> None:
        going = asyncio.create_task(settling.keep_settling(running))
        while len(asked) < 3 and not going.done():
            await asyncio.sleep(0.01)
        assert not going.done()
        going.cancel()

    asyncio.run(a_while())
    assert "workspaces cannot be listed: ConnectionError" in caplog.text


def test_a_full_disk_is_left_alone_for_a_while(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(settling, "PATIENCE", 1_000_000)

    async def a_while() -> None:
        task = asyncio.create_task(settling.keep_settling(running))
        while not seen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(a_while())
    assert seen == ["a", "b", "c"]
