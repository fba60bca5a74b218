"""Cycle time: how long each stage of a turn took, from capture to promotion."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flywheel import artifacts
from flywheel.settings import Home

log = logging.getLogger(__name__)

# In the order of a turn; the cycle table lists stages so.
STAGES = (
    "agents",
    "captures",
    "outcomes",
    "corpus",
    "sft",
    "trees",
    "pairs",
    "dpo",
    "rejection_sampling",
    "evaluation",
    "champion",
    "champion_episodes",
)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def timed(home: Home, key: str, stage: str) -> Iterator[None]:
    """Keep the wall and CPU seconds of a stage that ends well, under the day or version it was done for.

    The first time counts: a stage that is found done later leaves the time that it took to do. Of a stage that was
    killed, only the attempt that brought it to its end counts: what that one found done already is not in it.
    """
    log.info("%s %s", key, stage)
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), _cpu()
    yield
    log.info("%s %s: %.1f s", key, stage, time.perf_counter() - wall)
    path = home.cycle / f"{key}.{stage}.json"
    if path.exists():
        return
    artifacts.write_json(
        path,
        {
            "key": key,
            "stage": stage,
            "started_at": started.isoformat(),
            "seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(_cpu() - cpu, 3),
        },
    )


def table(home: Home, keys: set[str] | None = None) -> list[dict[str, Any]]:
    """One row a stage: its seconds over the given days and versions, its share, and the bottleneck marked."""
    seconds: dict[str, float] = {}
    for path in sorted(home.cycle.glob("*.json")):
        row = artifacts.read_json(path)
        if keys is None or row["key"] in keys:
            seconds[row["stage"]] = seconds.get(row["stage"], 0.0) + row["seconds"]
    total = sum(seconds.values()) or 1.0
    slowest = max(seconds, key=lambda stage: seconds[stage], default=None)
    return [
        {
            "stage": stage,
            "seconds": round(seconds[stage], 1),
            "share": round(seconds[stage] / total, 3),
            "bottleneck": stage == slowest,
        }
        for stage in STAGES
        if stage in seconds
    ]
