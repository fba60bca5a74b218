"""What the gateway adds to a call of a model, beside the same upstream asked directly; and its memory over many calls.

python -m bench.gateway [--rounds N] [--requests N]

Upstream, gateway and clients are processes of their own. Rounds of streams through the gateway and of streams from the
upstream itself take turns, so that a busy machine is busy for both. Each event of a stream holds the moment at which
it was sent, on the clock that all processes of the machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench import measure

STREAMS = 50  # at the same time
EVENTS = 40  # a stream, one every PACE_S
PACE_S = 0.02
TURNS = 4  # of the conversation that a call goes on with
TARGET_MS = {"median": 2.0, "p99": 10.0}
SENT = re.compile(rb'"sent":(\d+)')
WORDS = ["agent", "reads", "file", "finds", "test", "fails", "because", "missing", "import", "module", "above", "the"]


async def upstream(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A model's server: chat completions, streamed at the pace of a model, or at once where `pace` is 0."""
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    asked = msgspec.json.decode(body + message["body"])
    kind = b"text/event-stream" if asked["stream"] else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    base = {"id": f"chatcmpl-{time.monotonic_ns()}", "created": 1, "model": "scripted-1"}
    usage = {"prompt_tokens": 900, "completion_tokens": EVENTS, "total_tokens": 900 + EVENTS}
    if not asked["stream"]:
        choice = {"index": 0, "message": {"role": "assistant", "content": asked["say"]}, "finish_reason": "stop"}
        await send(
            {"type": "http.response.body", "body": json.dumps(base | {"choices": [choice], "usage": usage}).encode()}
        )
        return
    words = asked["say"].split(" ")
    for number, word in enumerate(words):
        if number and asked["pace"]:
            await asyncio.sleep(asked["pace"])
        delta = {"content": word if not number else f" {word}"}
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        event = base | {"object": "chat.completion.chunk", "choices": [choice], "sent": time.monotonic_ns()}
        await send(
            {"type": "http.response.body", "body": b"data: %s\n\n" % msgspec.json.encode(event), "more_body": True}
        )
    last = base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    end = b"data: %s\n\ndata: [DONE]\n\n" % msgspec.json.encode(last | {"sent": time.monotonic_ns()})
    await send({"type": "http.response.body", "body": end})


def serve_upstream(listening: socket.socket) -> None:
    """The upstream's process."""
    import uvicorn

    config = uvicorn.Config(
        upstream, loop="uvloop", http="httptools", log_config=None, access_log=False, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listening])


def serve_gateway(listening: socket.socket, home: str, url: str) -> None:
    """The gateway's process: the server as `flywheel serve` runs it, with no bound on the rate of one client.

    Conversations are over, and stored, after half a minute, so that what memory holds is not what waits.
    """
    import uvicorn

    from flywheel.server.app import create_app
    from flywheel.server.config import Config
    from flywheel.server.serving import Server, options
    from flywheel.settings import Home

    config = Config(openai=f"{url}/v1", requests_per_s=1e6, burst=1_000_000, idle_s=30, settle_every_s=10)
    app = create_app(Home(Path(home)), config)
    Server(uvicorn.Config(app, **options(config)), lambda: None).run(sockets=[listening])


@contextlib.contextmanager
def running(work: Any, *arguments: Any) -> Iterator[tuple[str, int]]:
    """A server in a process of its own; gives its base URL and the process's id."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(listening, *arguments))
    process.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()  # here: a server that is gone refuses
    assert process.pid
    try:
        yield url, process.pid
    finally:
        process.terminate()
        process.join(30)


class Took(msgspec.Struct, frozen=True):
    """Milliseconds: of each call to its first event, of each event on its way, and of the last one to the end."""

    first: list[float]
    events: list[float]
    end: list[float]


def ask(theirs: Connection, seed: int) -> None:
    """The clients' process: for each URL that it is sent, a round of streams and what they took."""
    import uvloop

    async def work() -> None:
        from aiohttp import ClientSession, TCPConnector

        chance = random.Random(seed)
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            loop = asyncio.get_running_loop()
            while order := await loop.run_in_executor(None, theirs.recv):
                url, streams, calls, pace = order
                took = Took([], [], [])
                lanes = [lane(session, url, calls, pace, chance.random(), took) for _ in range(streams)]
                await asyncio.gather(*lanes)
                theirs.send(took)

    uvloop.run(work())


async def lane(session: Any, url: str, calls: int, pace: float, seed: float, took: Took) -> None:
    """One client: calls one after the other, each going on from what was said before, whole answers now and then."""
    chance = random.Random(seed)
    await asyncio.sleep(chance.random() * PACE_S * EVENTS if pace else 0)
    messages: list[dict[str, str]] = []
    for number in range(calls):
        if number % TURNS == 0:
            messages = [{"role": "system", "content": " ".join(chance.choices(WORDS, k=400))}]
        messages.append({"role": "user", "content": " ".join(chance.choices(WORDS, k=100))})
        say = " ".join(chance.choices(WORDS, k=EVENTS if pace else 8))
        stream = bool(pace) or number % 2 == 0
        body = {"model": "scripted-1", "messages": messages, "stream": stream, "say": say, "pace": pace}
        data = msgspec.json.encode(body)
        began, first = time.monotonic_ns(), 0
        async with session.post(url, data=data, headers={"content-type": "application/json"}) as answer:
            assert answer.status == 200, await answer.text()
            at = began
            async for piece in answer.content.iter_any():
                at = time.monotonic_ns()
                first = first or at
                took.events.extend((at - int(sent)) / 1e6 for sent in SENT.findall(piece))
        took.first.append((first - began) / 1e6)
        took.end.append((time.monotonic_ns() - began) / 1e6)
        messages.append({"role": "assistant", "content": say})


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def spent(pid: int) -> float:
    """The CPU seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found: what calls took each way, CPU seconds of the gateway an event, its memory in bytes before and
    after each tenth of the calls without a pause, and how many of those it passed on a second."""

    took: dict[str, Took]
    cpu: float
    held: list[int]
    rate: float


def run(home: Path, rounds: int, requests: int, streams: int = STREAMS) -> Found:
    """Ask both ways in turns, then the gateway alone without a pause."""
    from flywheel.capture import workspaces
    from flywheel.settings import Home

    workspaces.create(Home(home), "bench")
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(running(serve_upstream))
        gateway, pid = stack.enter_context(running(serve_gateway, str(home), url))
        ours, theirs = multiprocessing.Pipe()
        clients = multiprocessing.get_context("spawn").Process(target=ask, args=(theirs, 1))
        clients.start()
        theirs.close()

        def asked(base: str, calls: int, pace: float) -> Took:
            ours.send((f"{base}/chat/completions", streams, calls, pace))
            return ours.recv()

        ways = {"direct": f"{url}/v1", "gateway": f"{gateway}/w/bench/v1"}
        for base in ways.values():
            asked(base, 1, PACE_S)
        took: dict[str, Took] = {name: Took([], [], []) for name in ways}
        cpu = spent(pid)
        for _ in range(rounds):
            for name, base in ways.items():
                found = asked(base, TURNS, PACE_S)
                for field in Took.__struct_fields__:
                    getattr(took[name], field).extend(getattr(found, field))
        cpu = (spent(pid) - cpu) / len(took["gateway"].events)
        held, began = [memory(pid)], time.monotonic()
        for _ in range(10 if requests else 0):
            asked(ways["gateway"], requests // (10 * streams), 0)
            held.append(memory(pid))
        rate = requests / (time.monotonic() - began)
        ours.send(None)
        clients.join()
    return Found(took=took, cpu=cpu, held=held, rate=rate)


def report(found: Found) -> None:
    """Write down what was found."""
    rows = []
    for field, what in {"first": "first event", "events": "each event", "end": "whole answer"}.items():
        direct, through = (np.array(getattr(found.took[name], field)) for name in ("direct", "gateway"))
        for name, q in {"median": 50, "p99": 99}.items():
            one, other = np.percentile(direct, q), np.percentile(through, q)
            row = {"what": f"{what}, {name}", "n": len(through), "direct": f"{one:.2f} ms"}
            rows.append(row | {"through the gateway": f"{other:.2f} ms", "added": f"{other - one:.2f} ms"})
    note = (
        f"{STREAMS} streams at the same time, {EVENTS} events each, one every {PACE_S * 1000:.0f} ms, in conversations "
        f"of {TURNS} calls. Aim: at most {TARGET_MS['median']:.0f} ms added at the median, {TARGET_MS['p99']:.0f} ms "
        f"at p99; the end of an answer waits for the disk besides. The gateway took {found.cpu * 1e6:.0f} us of CPU an "
        "event, all else of a call included."
    )
    if found.rate:
        held = ", ".join(f"{size / 2**20:.0f}" for size in found.held)
        note += (
            f" Its memory in MiB, before and after each tenth of calls without a pause ({found.rate:,.0f}/s): {held}."
        )
    measure.write("gateway", rows, title="What the gateway adds to a call", note=note)


def main() -> None:
    """Measure, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of streams each way")
    parser.add_argument("--requests", type=int, default=100_000, help="over which memory is watched; 0 for none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        report(run(Path(home), options.rounds, options.requests))


if __name__ == "__main__":
    main()
