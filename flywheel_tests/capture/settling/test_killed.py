"""A writer killed with SIGKILL at any moment: what it acknowledged is stored once, and nothing is stored twice."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture.journals import journal
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home
from flywheel_tests.capture.events import NOON
from flywheel_tests.capture.killed import forks, told


def there(home: Home) -> Counter[str]:
    """How often each record is stored: calls as their trajectories tell their own, the others by their ids."""
    found: Counter[str] = Counter()
    for row in warehouse.read(home.captures, TRAJECTORIES, "desk").select(["id", "metadata"]).to_pylist():
        own = msgspec.json.decode(row["metadata"]).get("exchanges")
        found.update([f"whole {row['id']}"] if own is None else [f"call {id}" for id in own])
    found.update(f"told {id}" for id in warehouse.read(home.outcomes, OUTCOMES, "desk")["id"].to_pylist())
    return found


@pytest.fixture(scope="module")
def forker() -> Iterator[Connection]:
    """Where writers are asked for: a process that has imported everything and forks."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=forks, args=(theirs,))
    process.start()
    yield ours
    ours.send(None)
    process.join()


@pytest.mark.parametrize("times", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged(
    desk: Home, forker: Connection, times: int
) -> None:
    rng = random.Random(7)
    for run in range(times):
        forker.send((desk.root, run))
        child = forker.recv()
        while not (told(desk.root, run).exists() and told(desk.root, run).stat().st_size):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        if run % 3 == 0:  # a settle beside the living writer
            settle(desk, "desk", NOON + timedelta(seconds=10))
        os.kill(child, signal.SIGKILL)
        while any(not dead(path) for path in journal.paths(desk.journals / "desk")):
            time.sleep(0.005)
        if run % 4 == 1:
            settle(desk, "desk", NOON + timedelta(hours=1))
    assert settle(desk, "desk", NOON + timedelta(days=1)).waiting == 0
    acknowledged = {id for run in range(times) for id in told(desk.root, run).read_text().splitlines(keepends=True)}
    acknowledged = {id[:-1] for id in acknowledged if id.endswith("\n")}  # the last one may be cut
    found = there(desk)
    assert len(acknowledged) > 20 * times
    assert acknowledged <= found.keys()
    assert set(found.values()) == {1}


def dead(path: Path) -> bool:
    """Whether a journal's writer is gone."""
    with journal.claimed(path) as gone:
        return gone
