"""Durable events a second: processes that record, each event on disk before its call returns; and what memory it takes.

python -m bench.capture [--seconds 10] [--writers 4] [--waiting 64] [--events 100000]

Processes write into one workspace, each to a journal of its own: steps of the recorder one at a time, steps of many
threads that share a recorder, and exchanges of many conversations, as the gateway writes them.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bench import measure
from flywheel.capture import workspaces
from flywheel.capture.journals.events import Closed
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.settling.settle import settle
from flywheel.settings import Home

WORKSPACE = "capture"
SAID = "The refund of order 8123 was approved and will be paid within five days. " * 6
TURNS = 20  # calls of a conversation


def steps(home: Home, seconds: float, waiting: int) -> list[float]:
    """Steps of one recorder, one at a time; seconds that each took."""
    with Recorder(home, WORKSPACE, agent="bench").trajectory(task_id="1") as recording:
        return _timed(seconds, lambda: recording.step(role="assistant", content=SAID))


def shared_steps(home: Home, seconds: float, waiting: int) -> list[float]:
    """Steps of as many threads as wait, which share a recorder."""
    recorder = Recorder(home, WORKSPACE, agent="bench")
    took: list[float] = []

    def work(number: int) -> None:
        with recorder.trajectory(task_id=str(number)) as recording:
            took.extend(_timed(seconds, lambda: recording.step(role="assistant", content=SAID)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(waiting)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def events(home: Home, seconds: float, waiting: int) -> list[float]:
    """Single events put by as many tasks as wait: the writer alone."""
    with Writer(home, WORKSPACE) as writer:
        event = Closed(SAID, datetime.now(UTC))
        return asyncio.run(_tasks(seconds, waiting, lambda: writer.write([event])))


def exchanges(home: Home, seconds: float, waiting: int) -> list[float]:
    """Calls of as many conversations as wait, redacted and written as what is new in each."""
    with Writer(home, WORKSPACE) as writer:
        threads = Threads(home, WORKSPACE, writer)
        conversations = iter(range(10**9))
        said: dict[int, list[dict[str, Any]]] = {}

        async def call() -> None:
            number = next(conversations) % waiting
            history = said.pop(number, [])
            if len(history) > 2 * TURNS:
                history = []
            messages = [*history, {"role": "user", "content": f"{number} {len(history)} {SAID}"}]
            answer = [{"role": "assistant", "content": SAID}]
            await threads.add(exchange(messages, answer))
            said[number] = [*messages, *answer]

        return asyncio.run(_tasks(seconds, waiting, call))


def exchange(messages: list[dict[str, Any]], answer: list[dict[str, Any]]) -> Exchange:
    """A call as the gateway tells of it."""
    now = datetime.now(UTC)
    details = {"finish_reason": "stop", "seconds": 1.0}
    return Exchange(
        id=uuid4().hex,
        thread="",
        messages=messages,
        answers=[answer],
        details=[details],
        started_at=now,
        ended_at=now,
    )


def _timed(seconds: float, work: Callable[[], Any]) -> list[float]:
    took = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        work()
        took.append(time.perf_counter() - began)
    return took


async def _tasks(seconds: float, waiting: int, work: Callable[[], Any]) -> list[float]:
    took = []
    until = time.perf_counter() + seconds

    async def task() -> None:
        while (began := time.perf_counter()) < until:
            await work()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(task() for _ in range(waiting)))
    return took


def many(write: Callable[..., list[float]], writers: int, seconds: float, waiting: int) -> dict[str, Any]:
    """What several processes that write at the same time reach together."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        home = Home(Path(folder))
        workspaces.create(home, WORKSPACE)
        context = multiprocessing.get_context("spawn")
        with context.Pool(writers) as pool:
            pool.starmap(write, [(home, 0.5, waiting)] * writers, chunksize=1)  # imports, and a warm start
            found = pool.starmap(write, [(home, seconds, waiting)] * writers, chunksize=1)
    took = np.array([second for process in found for second in process])
    return {
        "durable events a second": float(len(took) / seconds),
        "p50, ms": float(np.percentile(took, 50) * 1e3),
        "p99, ms": float(np.percentile(took, 99) * 1e3),
    }


def flush() -> float:
    """Milliseconds that one flush of an appended line takes here, at the median of 500."""
    with tempfile.TemporaryFile(dir=Path.cwd(), buffering=0) as file:
        took = []
        for _ in range(500):
            file.write(SAID.encode())
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return float(np.median(took) * 1e3)


def remembered(count: int) -> tuple[int, int]:
    """Bytes in memory of a process that writes so many exchanges and settles: after half of them, and after all."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        home = Home(Path(folder))
        workspaces.create(home, WORKSPACE)
        after: list[int] = []

        async def work(writer: Writer) -> None:
            threads = Threads(home, WORKSPACE, writer)
            histories: list[list[dict[str, Any]]] = [[] for _ in range(64)]
            for done in range(0, count, 64):
                for number, history in enumerate(histories):
                    history += [{"role": "user", "content": f"{number} {done} {SAID}"}]
                answer = [{"role": "assistant", "content": SAID}]
                await asyncio.gather(*(threads.add(exchange(list(history), answer)) for history in histories))
                histories = [[*history, *answer] if len(history) < 2 * TURNS else [] for history in histories]
                if done // (count // 10) != (done + 64) // (count // 10):
                    # As if a quarter of an hour had passed: what was said until now is over.
                    await asyncio.to_thread(settle, home, WORKSPACE, datetime.now(UTC), timedelta(seconds=1))
                    after.append(resident())

        with Writer(home, WORKSPACE) as writer:
            asyncio.run(work(writer))
        settle(home, WORKSPACE, datetime.now(UTC), timedelta(0))
        return after[len(after) // 2], after[-1]


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--waiting", type=int, default=64)
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    rows = []
    for what, write in (
        ("steps of a recorder, one at a time", steps),
        (f"steps of {options.waiting} threads that share a recorder", shared_steps),
        (f"events of {options.waiting} tasks, the writer alone", events),
        (f"exchanges of {options.waiting} conversations, 20 calls each", exchanges),
    ):
        found = many(write, options.writers, options.seconds, options.waiting)
        rows.append({"what": f"{options.writers} processes: {what}", **found})
    used = measure.apart(remembered, options.events)
    early, late = map(measure.size, used.given)
    measure.write(
        "capture",
        rows,
        title="Durable events a second",
        note=f"Each call returned when its event was on disk; one flush of a line takes {flush():.2f} ms here. "
        f"A process that wrote {options.events:,} exchanges and settled ten times meanwhile had {early} in memory "
        f"after half of them and {late} after all, {measure.size(used.peak)} at its peak, "
        f"in {measure.seconds(used.seconds)}.",
    )


if __name__ == "__main__":
    main()
