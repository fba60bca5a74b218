"""Malformed inputs by seed: mutators of bytes and of JSON, and what must hold whatever comes in.

`python -m flywheel_tests.fuzz --cases 50000` tries importers with four of five inputs, and routes with the others.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flywheel import schema, warehouse
from flywheel.capture import importers, workspaces
from flywheel.capture.ingest import ingest
from flywheel.capture.journals import journal
from flywheel.schema import QUARANTINE, TRAJECTORIES, FlywheelError
from flywheel.server.app import create_app
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel_tests.capture.importers import (
    test_api_calls,
    test_claude_code,
    test_hermes,
    test_intercode,
    test_langfuse,
    test_otlp,
    test_sharegpt,
    test_swe_agent,
    test_tau2,
    test_trace,
)
from flywheel_tests.capture.test_otlp import SPAN, TRACE, protobuf
from flywheel_tests.server import upstream

AT_ONCE = 50  # requests to one data folder: each bad one adds a small file, that the next one reads
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)

# ---------------------------------------------------------------------------------------------------- mutators

DEEP = b"[" * 3000 + b"]" * 3000
JUNK = (
    *(b"\xff", b"\x00", b"\xed\xa0\x80", b"\\ud800", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"NaN"),
    *(b"-Infinity", b"1e999", b"9" * 400, b"null", b"\xef\xbb\xbf", b"\x1f\x8b\x08", DEEP, b"<tool_call>", b"</think>"),
)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**63, -(2**70), 1e308, "", "\ud800", "\x00", "x" * 5000, "{", '{"a": [', "2026-13-45"),
    *("9" * 400, "0x", [], {}, [[]], [None], {"": None}, [{"role": "wizard"}], {"type": "tool_use"}, {"role": 7}),
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """An input changed in one to four ways, as bytes or as JSON."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        change = rng.choice(BYTES if rng.random() < 0.5 else (_odd_value,))
        data = change(rng, data)
    return data


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _without(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[min(end, start + 200) :]


def _twice(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6) if data else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _with_junk(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(JUNK) + data[at:]


def _packed(rng: random.Random, data: bytes) -> bytes:
    packed = gzip.compress(data, 1, mtime=0)
    return _flipped(rng, packed) if rng.random() < 0.3 else _cut(rng, packed) if rng.random() < 0.4 else packed


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (_cut, _without, _twice, _flipped, _with_junk, _packed)


def _odd_value(rng: random.Random, data: bytes) -> bytes:
    """JSON, or one of its lines, in which one to three values have become others, moved or gone."""
    try:
        whole = _decoded(data)
        if whole is not None:
            return _json(_changed(rng, whole))
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        line = _decoded(lines[at])
        if line is not None:
            lines[at] = _json(_changed(rng, line))
        return b"\n".join(lines)
    except (ValueError, RecursionError):  # a value that was moved into itself, or too deep
        return data


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _changed(rng: random.Random, value: Any) -> Any:
    for _ in range(rng.randrange(1, 4)):
        places = list(_places(value))
        if not places:
            return rng.choice(ODD)
        holder, key = rng.choice(places)
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, at = rng.choice(places)
            holder[key] = json.loads(_json(other[at])) if isinstance(at, str) and at in other else None
        elif kind == 2 and isinstance(holder, dict):
            holder[str(rng.choice(ODD))[:50].encode("utf-8", "replace").decode()] = holder.pop(key)
        else:
            holder[key] = rng.choice(ODD)
    return value


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        if depth < 30:
            yield from _places(value[key], depth + 1)


# ------------------------------------------------------------------------------------------------------- seeds

ASK = [{"role": "user", "content": "Hi, I am ann@x.org"}]
CHAT = [*ASK, {"role": "assistant", "content": None, "tool_calls": [test_swe_agent.CALL]}]
CHAT += [{"role": "tool", "tool_call_id": "c", "content": "a.py"}, {"role": "assistant", "content": "Done."}]
HERMES = [
    test_hermes.turn("human", "Oslo?"),
    test_hermes.turn("gpt", "<think>\nHm.\n</think>", test_hermes.call("weather", city="Oslo")),
    test_hermes.turn("tool", test_hermes.response("sun", "a")),
    test_hermes.turn("gpt", "Sun."),
]
RESPONSE = test_api_calls.responses(test_api_calls.ITEMS, upstream.Say(text="Sun."), "r2", stream=False)


def _lines(*values: Any) -> bytes:
    return b"\n".join(_json(value) for value in values)


def _event(name: str, said: dict[str, Any]) -> Any:
    return test_trace.log(name, said, SPAN) | {"traceId": TRACE}


SPANS = test_otlp.request(
    *(
        test_otlp.span(attributes, SPAN[:-1] + str(number), TRACE, droppedAttributesCount=number % 2)
        for number, attributes in enumerate(
            (test_otlp.CURRENT, test_otlp.OF_BEFORE, test_otlp.INFERENCE, test_otlp.VALUES, {"http.route": "/"})
        )
    )
)
LOGS = test_trace.logs(*(_event(*told) for told in test_otlp.EVENTS))

SEEDS: dict[str, list[bytes]] = {
    "openai-chat": [
        _lines({"messages": CHAT, "tools": [], "reward": 1}, {"messages": ASK, "metadata": {"task_id": 1}})
    ],
    "openai-responses": [_lines({**RESPONSE["response"], **RESPONSE["request"]})],
    "api-calls": [
        _json(
            [
                test_api_calls.chat(test_api_calls.CHAT, upstream.Say(text="Sun."), "r1", stream=stream),
                test_api_calls.responses(test_api_calls.ITEMS, upstream.Say(text="Sun."), "r2", stream=stream),
                test_api_calls.messages(test_api_calls.BLOCKS, upstream.Say(text="Sun."), "r3", stream=stream),
            ]
        )
        for stream in (False, True)
    ],
    "anthropic-messages": [_lines({"system": "Be kind.", "messages": test_api_calls.BLOCKS, "tools": []})],
    "otlp": [_json(SPANS), _lines(SPANS, LOGS), _json([test_otlp.CURRENT, test_otlp.INFERENCE])],
    "langfuse": [
        _json(
            test_langfuse.trace(
                test_langfuse.generation("a", 1, [test_langfuse.ASK], test_langfuse.CALLING),
                test_langfuse.generation("b", 3, [test_langfuse.ASK], {"role": "assistant", "content": "Sun."}),
                scores=({"name": "good", "value": 1, "observationId": "a"},),
            )
        )
    ],
    "sharegpt": [_json([{"conversations": test_sharegpt.CHAT, "system": "x"}]), _lines({"conversations": HERMES})],
    "hermes": [_lines(test_hermes.saved(*HERMES), test_hermes.saved(*HERMES, *HERMES))],
    "alpaca": [_json([{"instruction": "Add.", "input": "1 1", "output": "2", "history": [["a", "b"]]}])],
    "claude-code": [
        _lines(
            test_claude_code.line("u1", None, "Hi"),
            test_claude_code.said("a1", "u1", test_claude_code.use("t1", path="x"), id="m"),
            test_claude_code.line("u2", "a1", [test_claude_code.result("t1", "ok")]),
            test_claude_code.said("a2", "u2", test_claude_code.text("Done.")),
            test_claude_code.line("u3", "a1", "Rather not.", isSidechain=True, agentId="s"),
        )
    ],
    "swe-agent": [_json(test_swe_agent.RUN)],
    "tau-bench": [_json([{"task_id": 1, "trial": 0, "reward": 1.0, "traj": CHAT, "info": {"reward_info": None}}])],
    "tau2": [_json(test_tau2.results(test_tau2.SIMULATION))],
    "intercode": [_json({"3": test_intercode.EPISODE})],
}

# ---------------------------------------------------------------------------------------------------- importers

KNOWN = importers.Known(list(importers.IMPORTERS), {}, [])


def through_importer(folder: Path, name: str, data: bytes) -> str:
    """Read an input as one format and by detection: what comes out can be stored, or says why it cannot.

    Returns what became of it: `read`, or the kind of the error. Anything but an error for people is raised.
    """
    path = folder / "input.jsonl"
    path.write_bytes(data)
    with suppress(FlywheelError):
        KNOWN.importer_of(path)
    try:
        found = list(KNOWN.importer_of(path, name).read(path, "desk", NOW))
    except FlywheelError as error:
        assert str(error)
        return type(error).__name__
    for one in found:
        if isinstance(one, importers.Bad):
            assert one.error and one.error.encode("utf-8", "replace") and one.end <= max(len(data), one.end)
            continue
        table = schema.trajectories_table([one.trajectory])
        assert schema.trajectory_of(table.to_pylist()[0]).id == one.trajectory.id
        assert isinstance(json.loads(one.trajectory.metadata), dict)
        schema.outcomes_table(list(one.outcomes))
    return "read" if found else "nothing"


def through_ingest(folder: Path, name: str, data: bytes) -> str:
    """Store an input: what was read is what is stored and what is in quarantine."""
    home = Home(Path(tempfile.mkdtemp(dir=folder)))
    workspaces.create(home, "desk")
    path = folder / "in" / "input.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    [report] = ingest(home, [path.parent], "desk", name, now=NOW).files
    assert report.records == report.added + report.already_there + report.duplicates + report.quarantined
    assert warehouse.read(home.captures, TRAJECTORIES, "desk").num_rows == report.added
    assert warehouse.read(home.quarantine, QUARANTINE, "desk").num_rows <= report.quarantined
    assert bool(report.quarantined) == bool(warehouse.read(home.quarantine, QUARANTINE, "desk").num_rows)
    return "stored" if report.added else "quarantined" if report.quarantined else "nothing"


# ------------------------------------------------------------------------------------------------------- routes


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route that takes bodies: how it is asked, and inputs that it takes. More of them go into `ROUTES`.

    One of the gateway has `answers` of its upstream, of which each is malformed in its turn.
    """

    path: str
    media: str
    seeds: list[bytes]
    method: str = "POST"
    headers: dict[str, str] = {}
    answers: tuple[tuple[str, bytes], ...] = ()


API = "/api/v1/workspaces/desk"
STEPS = [
    {"role": "user", "content": "Oslo?"},
    {"role": "tool", "content": "sun", "tool_call_id": "c", "is_error": True},
]
STEPS += [{"role": "assistant", "tool_calls": [{"id": "c", "name": "weather", "arguments": "{}"}], "at": "2026-01-05"}]
POSTED = [{"id": f"t{n}", "task_id": "t", "agent": "a", "metadata": {"n": n}, "steps": STEPS} for n in range(3)]
TOLD = [{"trajectory_id": "t1", "signal": "merged", "value": n, "source": "x", "key": f"k{n}"} for n in range(3)]
PULL = {"action": "closed", "pull_request": {"merged": True, "number": 7, "body": "Flywheel-Trajectory: t1"}}
SAID = upstream.Say(text="Sun.", thought="Hm.", calls=(("c", "weather", '{"city": "Oslo"}'),))
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
BLOCKS = {"model": "m", "max_tokens": 9, "system": "Be kind.", "messages": test_api_calls.BLOCKS}


def _answers(whole: Any, events: list[bytes]) -> tuple[tuple[str, bytes], ...]:
    failure = {"error": {"type": "overloaded", "message": "Later, ann@x.org."}}
    plain = (("application/json", _json(value)) for value in (whole, failure))
    return (*plain, ("text/event-stream", b"".join(events)))


CALLS = [
    Route(
        path="/w/desk/v1/chat/completions",
        media="application/json",
        seeds=[_json({"model": "m", "messages": CHAT, "tools": TOOLS, "n": 2})],
        answers=_answers(upstream.chat_whole([SAID] * 2), upstream.as_sse(upstream.chat_chunks([SAID] * 2), done=True)),
    ),
    Route(
        path="/w/desk/t/night/v1/responses",
        media="application/json",
        seeds=[_json({"model": "m", "input": test_api_calls.ITEMS, "previous_response_id": "resp_1"})],
        answers=_answers(upstream.responses_whole(SAID), upstream.as_sse(upstream.responses_events(SAID), named=True)),
    ),
    Route(
        path="/w/desk/v1/messages",
        media="application/json",
        seeds=[_json(BLOCKS)],
        answers=_answers(upstream.messages_whole(SAID), upstream.as_sse(upstream.messages_events(SAID), named=True)),
    ),
]
ROUTES: list[Route] = [
    *CALLS,
    Route(path="/w/desk/otlp/v1/traces", media="application/json", seeds=[_json(SPANS)]),
    Route(path="/w/desk/otlp/v1/logs", media="application/json", seeds=[_json(LOGS)]),
    Route(path="/w/desk/otlp/v1/traces", media="application/x-protobuf", seeds=[protobuf("traces", SPANS)]),
    Route(path="/w/desk/otlp/v1/logs", media="application/x-protobuf", seeds=[protobuf("logs", LOGS)]),
    Route(path=f"{API}/trajectories", media="application/json", seeds=[_json(POSTED), _json(POSTED[0])]),
    Route(path=f"{API}/trajectories", media="application/x-ndjson", seeds=[_lines(*POSTED)]),
    Route(path=f"{API}/outcomes", media="application/json", seeds=[_json(TOLD)]),
    Route(path=f"{API}/outcomes", media="application/x-ndjson", seeds=[_lines(*TOLD)]),
    Route(
        path="/w/desk/github", media="application/json", seeds=[_json(PULL)], headers={"X-GitHub-Event": "pull_request"}
    ),
]


@contextmanager
def asked(home: Home) -> Iterator[Callable[[Route, bytes], str]]:
    """Asks routes of a server in this process: no answer is the server's own failure.

    What an OTLP request of spans holds is kept or told as rejected. What an upstream answers comes as it was said, and
    every call of a model is kept as one, or set aside.
    """
    workspaces.create(home, "desk")
    spans = Events(home.journals / "desk", b'"event":"spanned"')
    calls = Events(home.journals / "desk", b'"event":"exchanged"', b'"event":"set_aside"')
    says = Saying()
    config = Config(settle_every_s=3600.0, requests_per_s=1e9, burst=10**9, openai=says.url, anthropic=says.url)
    with TestClient(create_app(home, config), base_url="http://127.0.0.1") as client, says.open():

        def call(route: Route, data: bytes) -> str:
            rng = random.Random(data)
            media, answer = rng.choice(route.answers)
            says.media, says.answer = media, mutated(rng, answer) if rng.random() < 0.8 else answer
            says.status = rng.choice((200, 200, 200, 400, 429, 500))
            calls.new()
            got = client.request(route.method, route.path, content=data, headers={"Content-Type": route.media})
            assert (got.status_code, got.content) == (says.status, says.answer)
            assert calls.new() == 1
            return str(got.status_code)

        def ask(route: Route, data: bytes) -> str:
            if route.answers:
                return call(route, data)
            headers = {"Content-Type": route.media, **route.headers}
            if data[:2] == b"\x1f\x8b":
                headers["Content-Encoding"] = "gzip"
            spans.new()
            answer = client.request(route.method, route.path, content=data, headers=headers)
            assert answer.status_code < 500, (answer.status_code, answer.content[:200])
            if route.path.endswith("/traces"):
                kept = spans.new()
                if answer.status_code != 200:
                    assert not kept
                elif route.media != "application/json" and "Content-Encoding" not in headers:
                    assert kept + _rejected(answer.content) == _spans(data)
            return str(answer.status_code)

        yield ask


class Saying:
    """An upstream that answers whatever it was told to."""

    def __init__(self) -> None:
        self.status, self.media, self.answer = 200, "", b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, whatever is asked."""
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", self.media.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})

    @contextmanager
    def open(self) -> Iterator[None]:
        """Listen while the block lasts."""
        server = uvicorn.Server(uvicorn.Config(self, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [self._listening]})
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(60)


class Events:
    """Counts the events of some kinds that journals have got since it was asked last."""

    def __init__(self, folder: Path, *kinds: bytes) -> None:
        self._folder, self._kinds = folder, kinds
        self._read: Counter[Path] = Counter()

    def new(self) -> int:
        """How many there are."""
        count = 0
        for path in journal.paths(self._folder):
            with path.open("rb") as file:
                file.seek(self._read[path])
                text = file.read()
                count += sum(text.count(kind) for kind in self._kinds)
                self._read[path] = file.tell()
        return count


def _spans(data: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(data)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _rejected(data: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    return ExportTraceServiceResponse.FromString(data).partial_success.rejected_spans


# ---------------------------------------------------------------------------------------------------------- all


class Failed(AssertionError):
    """An input that something could not take: which one, so that it can be tried alone."""


def inputs(rng: random.Random, seeds: list[bytes], cases: int) -> Iterator[bytes]:
    """So many inputs: the seeds themselves first, then what mutations make of them."""
    yield from seeds[:cases]
    for _ in range(cases - len(seeds)):
        yield mutated(rng, rng.choice(seeds))


def run(folder: Path, cases: int, seed: int, *, stored_every: int = 50) -> Counter[str]:
    """Try so many inputs, four of five on importers and one on routes; what became of them, by kind."""
    counts: Counter[str] = Counter()
    asking = cases // 5
    for number, (name, seeds) in enumerate(SEEDS.items()):
        rng = random.Random(f"{seed} {name}")
        for at, data in enumerate(inputs(rng, seeds, _share(cases - asking, number, len(SEEDS)))):
            with _told(name, data):
                counts[f"importer {name}: {through_importer(folder, name, data)}"] += 1
                if at % stored_every == 0:
                    counts[f"ingest: {through_ingest(folder, name, data)}"] += 1
    for number, route in enumerate(ROUTES):
        tried = inputs(random.Random(f"{seed} {number}"), route.seeds, _share(asking, number, len(ROUTES)))
        for part in batched(tried, AT_ONCE):
            with tempfile.TemporaryDirectory(dir=folder) as served, asked(Home(Path(served))) as ask:
                for data in part:
                    with _told(f"{route.method} {route.path} {route.media}", data):
                        counts[f"route {route.path} {route.media}: {ask(route, data)}"] += 1
    return counts


def batched(values: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    """So many at a time."""
    while part := list(islice(values, size)):
        yield part


def _share(cases: int, number: int, of: int) -> int:
    return cases // of + (number < cases % of)


@contextmanager
def _told(where: str, data: bytes) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Failed(f"{where}: {type(error).__name__}: {error}; the input: {data[:3000]!r}") from error


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=50_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(Path(folder), arguments.cases, arguments.seed, stored_every=200)
    for name, count in sorted(counts.items()):
        sys.stdout.write(f"{count:8,}  {name}\n")
    sys.stdout.write(f"{sum(counts.values()):8,}  in {time.monotonic() - began:.0f} s; nothing crashed\n")


if __name__ == "__main__":
    main()
