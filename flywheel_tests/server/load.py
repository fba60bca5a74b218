"""Clients of all kinds at once, against a server that is killed again and again; each notes what was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.types import Receive, Scope, Send

import flywheel.cli.serve
import flywheel.server.serving  # noqa: F401 - what a server imports late, before it is forked
from flywheel.capture import Recorder
from flywheel.capture.recorders import shipping_thread
from flywheel.capture.redaction.redact import Redactor
from flywheel.cli import app
from flywheel.schema import Trajectory
from flywheel_tests.capture.importers.test_otlp import request, span
from flywheel_tests.server.upstream import Say, as_sse, chat_chunks, chat_whole

MAIL, MASKED = "kim@example.org", "<EMAIL>"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PAUSE = 0.02  # seconds before what was not acknowledged is sent again
Message = dict[str, Any]


class Notes(msgspec.Struct):
    """What one process of clients sent, and what of it was acknowledged.

    `asked` has the messages of each request to a model by the last of them, which no other request has but one that is
    sent again; `answered` the answers that came whole, a list a request. `posted`, `recorded` and `spans` have what was
    said by id, `outcomes` the ids of the trajectories that they are about: all of them were acknowledged. `refused`
    counts answers of 503: the disk is full.
    """

    asked: dict[str, list[Message]] = {}
    answered: list[tuple[str, list[str]]] = []
    cancelled: int = 0
    broken: int = 0
    posted: dict[str, list[str]] = {}
    outcomes: list[str] = []
    spans: dict[str, list[str]] = {}
    recorded: dict[str, list[str]] = {}
    again: int = 0
    refused: int = 0


class Model:
    """An upstream that answers what it is asked, in streams with pauses; `given` are its answers by question."""

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {}
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event.get("body", b""), event.get("more_body", False)
        asked = json.loads(body)
        number, question = next(self._numbers), asked["messages"][-1]["content"]
        texts = [f"answer {number}.{choice} to {question}" for choice in range(asked.get("n", 1))]
        self.given.setdefault(question, []).extend(texts)
        calls = (("c1", "look_up", '{"what":"it"}'),) if "[tool]" in question else ()
        says = [Say(text=text, calls=calls) for text in texts]
        id = f"chatcmpl-{number}"
        kind = b"text/event-stream" if asked.get("stream") else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        pieces = as_sse(chat_chunks(says, id), done=True)
        for piece in pieces if asked.get("stream") else [msgspec.json.encode(chat_whole(says, id))]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if number % 2:
                await asyncio.sleep(0.002)
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def listening(model: Model) -> Iterator[str]:
    """Serve a model in a thread while the block lasts; gives its base URL."""
    bound = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(model, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(60)


def forks(orders: Connection) -> None:
    """Fork a process for each order, in milliseconds since all is imported; kill and wait for them when told."""
    Redactor().text("")  # its rules are made once
    while order := orders.recv():
        what, *rest = order
        if what == "kill":
            os.kill(rest[0], signal.SIGKILL)
        if what in ("kill", "wait"):
            orders.send(os.waitpid(rest[0], 0)[1])
            continue
        child = os.fork()
        if not child:
            code = 1
            try:
                {"serve": serve, "clients": clients}[what](*rest)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        orders.send(child)


def serve(root: Path, *options: str) -> None:
    """`flywheel serve`, as a user starts it; what it prints is in a file beside the data folder."""
    os.environ["FLYWHEEL_HOME"] = str(root)
    log = os.open(root.parent / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    app(["serve", *options], standalone_mode=False)


def clients(bases: list[str], folder: Path, name: str, kinds: list[str], seed: int) -> None:
    """Clients of any number of servers, in threads, until there is a file `stop` in the folder.

    Then what they noted is in one of their name.
    """
    notes = Notes()
    stop = folder / "stop"
    failed: list[str] = []

    def run(client: Client) -> None:
        try:
            while not stop.exists():
                client.work()
                time.sleep(client.rng.uniform(0, 0.03))
            client.end()
        except BaseException:
            failed.append(traceback.format_exc())

    every = [
        KINDS[kind](bases, folder, f"{name}{number}", random.Random(f"{seed}{name}{number}"), notes)
        for number, kind in enumerate(kinds)
    ]
    threads = [threading.Thread(target=run, args=(client,)) for client in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (folder / name).write_bytes(msgspec.json.encode(notes))
    if failed:
        raise AssertionError("\n".join(failed))


class Client:
    """One client, in a thread of its own; `work` sends something, `end` what must not stay behind."""

    def __init__(self, bases: list[str], folder: Path, name: str, rng: random.Random, notes: Notes) -> None:
        self.bases, self.folder, self.name, self.rng, self.notes = bases, folder, name, rng, notes
        self.numbers = itertools.count()
        self.http = httpx.Client(timeout=30)

    @property
    def base(self) -> str:
        """Any of the servers."""
        return self.rng.choice(self.bases)

    def work(self) -> None:
        """Send something."""

    def end(self) -> None:
        """Come to an end."""
        self.http.close()

    def insist(self, path: str, content: bytes, kind: str) -> httpx.Response:
        """Send something again until it is acknowledged."""
        while True:
            try:
                answer = self.http.post(self.base + path, content=content, headers={"content-type": kind})
                if self.taken(answer):
                    return answer
            except httpx.TransportError:
                self.notes.again += 1
            time.sleep(PAUSE)

    def taken(self, answer: httpx.Response) -> bool:
        """Whether what was sent was taken; else the disk is full."""
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
            self.notes.refused += 1
            return False
        assert answer.status_code == 200, (answer.status_code, answer.read())
        return True


class Caller(Client):
    """Talks with a model through the gateway, and goes away in the middle now and then."""

    def work(self) -> None:
        """Have one conversation."""
        rng, number = self.rng, next(self.numbers)
        named = f"talk-{self.name}-{number}" if rng.random() < 0.5 else ""
        way = "/w/desk" + (f"/t/{named}" if named else "") + "/v1/chat/completions"
        history: list[Message] = [{"role": "system", "content": "Be brief."}] if rng.random() < 0.5 else []
        for turn in range(rng.randint(1, 5)):
            tool = " [tool]" if rng.random() < 0.25 else ""
            mail = f" of {MAIL}" if rng.random() < 0.25 else ""
            question = f"question {self.name}-{number}-{turn}{mail}{tool}"
            calls = history[-1].get("tool_calls") if history else None
            asked = {"role": "tool", "tool_call_id": "c1"} if calls else {"role": "user"}
            history.append(asked | {"content": question})
            answers = None
            for _ in range(rng.choice([1, 3, 10])):
                if answers := self.ask(way, question, history, 2 if rng.random() < 0.15 else 1):
                    break
            if not answers:
                return
            history.append(rng.choice(answers))
        if named and rng.random() < 0.4:
            try:
                self.http.post(f"{self.base}/w/desk/t/{named}/end")
            except httpx.TransportError:
                return

    def ask(self, way: str, question: str, history: list[Message], n: int) -> list[Message] | None:
        """Ask once; the answers, if they came whole."""
        stream = self.rng.random() < 0.6
        leaves = self.rng.randint(1, 6) if stream and self.rng.random() < 0.15 else 0
        body = {"model": "m-1", "messages": list(history), "stream": stream} | ({"n": n} if n > 1 else {})
        self.notes.asked[question] = body["messages"]
        try:
            if not stream:
                answer = self.http.post(self.base + way, json=body)
                found = [choice["message"] for choice in answer.json()["choices"]] if self.taken(answer) else None
            else:
                with self.http.stream("POST", self.base + way, json=body) as answer:
                    found = _heard(answer, leaves) if self.taken(answer) else None
        except httpx.TransportError:
            self.notes.broken += 1
            time.sleep(PAUSE)
            return None
        if found is None:
            self.notes.cancelled += bool(leaves)
            self.notes.broken += not leaves
            return None
        self.notes.answered.append((question, [message["content"] for message in found]))
        return found


def _heard(answer: httpx.Response, leaves: int) -> list[Message] | None:
    """The messages of a stream; None where it has no end, or is left after so many events."""
    found: dict[int, Message] = {}
    for count, line in enumerate(line for line in answer.iter_lines() if line):
        if leaves and count == leaves:
            return None
        if line == "data: [DONE]":
            return [found[index] for index in sorted(found)]
        for choice in json.loads(line[6:])["choices"]:
            message = found.setdefault(choice["index"], {"role": "assistant", "content": ""})
            message["content"] += choice["delta"].get("content") or ""
            for part in choice["delta"].get("tool_calls") or ():
                calls = message.setdefault("tool_calls", [])
                if "id" in part:
                    calls.append({"type": "function", "id": part["id"], "function": dict(part["function"])})
                else:
                    calls[-1]["function"]["arguments"] += part["function"]["arguments"]
    return None


class Poster(Client):
    """Sends whole trajectories."""

    def work(self) -> None:
        """Send a few."""
        lines, said = [], {}
        for _ in range(self.rng.randint(1, 4)):
            id = f"posted-{self.name}-{next(self.numbers)}"
            said[id] = [f"step {n} of {id} for {MAIL}" for n in range(self.rng.randint(1, 4))]
            steps = [{"role": "user" if n % 2 == 0 else "assistant", "content": c} for n, c in enumerate(said[id])]
            lines.append(json.dumps({"id": id, "task_id": id, "agent": "poster", "steps": steps}))
        answer = self.insist(
            "/api/v1/workspaces/desk/trajectories", "\n".join(lines).encode(), "application/x-ndjson"
        ).json()
        assert answer == {"accepted": len(lines), "quarantined": []}, answer
        self.notes.posted |= said


class Teller(Client):
    """Tells outcomes, by a key or by their time."""

    def work(self) -> None:
        """Tell a few."""
        told: list[Message] = []
        for _ in range(self.rng.randint(1, 4)):
            id = f"about-{self.name}-{next(self.numbers)}"
            name = {"key": f"key of {id}"} if self.rng.random() < 0.6 else {"observed_at": NOON.isoformat()}
            told.append({"trajectory_id": id, "signal": "resolved", "value": 1.0} | name)
        answer = self.insist("/api/v1/workspaces/desk/outcomes", json.dumps(told).encode(), "application/json").json()
        assert answer["quarantined"] == [] and answer["accepted"] + answer["already_there"] == len(told), answer
        self.notes.outcomes += [one["trajectory_id"] for one in told]


class Tracer(Client):
    """Exports spans, those of a trace in one request or in several, and some twice."""

    def work(self) -> None:
        """Export a trace."""
        trace, history, spans = f"{self.rng.getrandbits(128):032x}", [], {}
        waiting = []
        for second in range(self.rng.randint(1, 3)):
            id = f"{self.rng.getrandbits(64):016x}"
            history = [*history, f"asked {id}"]
            parts = [_said("assistant" if n % 2 else "user", text) for n, text in enumerate(history)]
            answer = f"answer of {id}"
            told = {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m-1",
                "gen_ai.input.messages": json.dumps(parts),
                "gen_ai.output.messages": json.dumps([_said("assistant", answer)]),
            }
            waiting.append(span(told, _base64(id), _base64(trace), second + 1))
            history = [*history, answer]
            spans[f"{trace}:{id}"] = list(history)
            if self.rng.random() < 0.5:
                self.export(waiting)
                waiting = waiting if self.rng.random() < 0.2 else []
                time.sleep(self.rng.choice([0, 0, 0, 0.5]))  # at times the trace is stored before it goes on
        self.export(waiting)
        self.notes.spans |= spans

    def export(self, spans: list[Any]) -> None:
        """Export what there is."""
        if spans:
            body = ParseDict(request(*spans), ExportTraceServiceRequest()).SerializeToString()
            answer = self.insist("/w/desk/otlp/v1/traces", body, "application/x-protobuf")
            assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")


def _base64(id: str) -> str:
    return b64encode(bytes.fromhex(id)).decode()


def _said(role: str, text: str) -> Message:
    return {"role": role, "parts": [{"type": "text", "content": text}], "finish_reason": "stop"}


class Agent(Client):
    """Records through a spool, which is shipped while the server lives."""

    def __init__(self, bases: list[str], folder: Path, name: str, rng: random.Random, notes: Notes) -> None:
        super().__init__(bases, folder, name, rng, notes)
        shipping_thread.EVERY, shipping_thread.LONGEST = 0.1, 0.5
        self.recorder = Recorder.to(bases[-1], "desk", spool=folder / f"spool-{name}", agent="recorder")

    def work(self) -> None:
        """Record an episode."""
        id = f"recorded-{self.name}-{next(self.numbers)}"
        said = [f"step {n} of {id}" for n in range(self.rng.randint(1, 4))]
        with self.recorder.trajectory(task_id=id, id=id) as t:
            for n, content in enumerate(said):
                t.step(role="user" if n % 2 == 0 else "assistant", content=content)
        self.recorder.outcome(id, "fine", 1.0)
        self.notes.recorded[id] = said
        time.sleep(self.rng.uniform(0, 0.1))

    def end(self) -> None:
        """Ship all."""
        super().end()
        self.recorder.close()
        assert self.recorder.flush(60), self.recorder.shipping.trouble


KINDS: dict[str, Callable[..., Client]] = {
    "call": Caller,
    "post": Poster,
    "tell": Teller,
    "trace": Tracer,
    "record": Agent,
}


def steps_of(messages: list[Message]) -> list[tuple[Any, ...]]:
    """Messages as what is compared of them."""
    return [
        (
            message["role"],
            clean(message["content"]),
            tuple((c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or ()),
        )
        for message in messages
    ]


def said_in(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    """The steps of a stored trajectory as what is compared of them."""
    return [(s.role, s.content, tuple((c.name, c.arguments) for c in s.tool_calls)) for s in trajectory.steps]


def clean(text: str) -> str:
    """A text as it is stored."""
    return text.replace(MAIL, MASKED)
