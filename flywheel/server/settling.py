"""Settling beside the server: what came in becomes stored rows, every so often."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from flywheel.capture import workspaces
from flywheel.capture.journals.journal import Full
from flywheel.capture.settling.settle import settle
from flywheel.server.logs import told
from flywheel.server.running import Running

log = logging.getLogger("flywheel.server")

PATIENCE = 10  # a full disk is left alone for so many rounds


async def keep_settling(running: Running) -> None:
    """Settle all workspaces again and again, until cancelled."""
    while True:
        await asyncio.sleep(running.config.settle_every_s)
        if not await asyncio.to_thread(settle_all, running):
            await asyncio.sleep(running.config.settle_every_s * PATIENCE)


def settle_all(running: Running) -> bool:
    """Settle each workspace; what fails is logged and keeps no other from it. False when a disk takes nothing."""
    room, idle = True, timedelta(seconds=running.config.idle_s)
    try:
        names = workspaces.names(running.home)
    except Exception as error:  # as an object store raises that is away for a while
        log.error("workspaces cannot be listed: %s", told(error))
        return room
    for workspace in names:
        try:
            settled = settle(running.home, workspace, running.clock(), idle)
        except (Full, OSError) as error:
            room = False
            log.error("settling %s must wait: %s", workspace, told(error))
        except Exception as error:
            log.error("settling %s failed: %s", workspace, told(error))
        else:
            if settled.trajectories or settled.outcomes or settled.quarantined:
                log.info(
                    "settled %s: %d trajectories, %d outcomes, %d quarantined",
                    workspace,
                    settled.trajectories,
                    settled.outcomes,
                    settled.quarantined,
                )
    return room
