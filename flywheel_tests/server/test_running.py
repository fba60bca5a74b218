"""What a running server holds: large bodies are parsed a few at a time, and small ones wait for nobody."""

import asyncio
import threading

from flywheel.server.config import Config
from flywheel.server.running import LARGE, TAKERS, Running
from flywheel.settings import Home


def test_large_bodies_are_parsed_a_few_at_a_time_and_small_ones_at_once(home: Home) -> None:
    running, lock, go_on = Running(home, Config()), threading.Lock(), threading.Event()
    under_way = most = 0

    def parse() -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        go_on.wait(10)
        with lock:
            under_way -= 1

    async def bodies() -> str:
        large = [asyncio.create_task(running.parse(b" " * (LARGE + 1), parse)) for _ in range(3 * TAKERS)]
        while under_way < TAKERS:
            await asyncio.sleep(0.001)
        small = await running.parse(b"{}", lambda: "made")
        go_on.set()
        await asyncio.gather(*large)
        return small

    assert asyncio.run(bodies()) == "made"
    assert most == TAKERS
