"""No way in over HTTP leaves a secret on disk: not in the data folder, settled or not, in a spool, or in the log."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, access
from flywheel.capture.feedback import github
from flywheel.capture.recorders import shipping_thread
from flywheel.capture.settling.settle import Settled, settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, ToolCall
from flywheel.server.config import Config
from flywheel.server.logs import Lines
from flywheel.settings import Home
from flywheel_tests.capture.importers.test_otlp import request, span, typed
from flywheel_tests.capture.redaction.test_planted import PLANTS, Say, Spoken, anthropic, attributes, call, post, tool
from flywheel_tests.capture.test_otlp import protobuf
from flywheel_tests.plants import KINDS, Plant, assert_nowhere
from flywheel_tests.server import upstream as scripted
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.test_github import pull_request, push
from flywheel_tests.server.upstream import Fail, Port, Upstream

LATER = datetime.now(UTC) + timedelta(days=365)
SHORT = [plant for plant in PLANTS if "\n" not in plant.text]  # what fits into a header or a line
OF_EACH = PLANTS[::53]  # of each kind
Post = Callable[..., httpx.Response]


class Desk:
    """A workspace on a live server; all that either writes lies below `root`, the log at its most talkative too."""

    def __init__(self, root: Path, home: Home, url: str, upstream: Upstream) -> None:
        self.root, self.home, self.url, self.upstream = root, home, url, upstream
        self.api = f"{url}/api/v1/workspaces/desk"
        self.client = httpx.Client(timeout=60)

    def settled(self, *more: str) -> Settled:
        """Settle; neither before nor after is one of the plants (or of `more`) anywhere."""
        values = [*(plant.value for plant in PLANTS), *more]
        assert_nowhere(self.root, values)
        found = settle(self.home, "desk", LATER)
        assert_nowhere(self.root, values)
        return found

    def rows(self, schema: Any = TRAJECTORIES) -> list[dict[str, Any]]:
        """What is stored."""
        places = {TRAJECTORIES: self.home.captures, OUTCOMES: self.home.outcomes, QUARANTINE: self.home.quarantine}
        return warehouse.read(places[schema], schema, "desk").to_pylist()


@pytest.fixture
def planted(tmp_path: Path, desk: Home, live: Live, upstreams: Port) -> Iterator[Desk]:
    handler = logging.FileHandler(tmp_path / "server.log")
    handler.setFormatter(Lines(json=False))
    loggers = [logging.getLogger(name) for name in ("flywheel", "uvicorn.error", "aiohttp", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    upstream = upstreams.add(Upstream())
    url = live(desk, Config(openai=f"{upstream.url}/v1", anthropic=upstream.url, settle_every_s=3600, burst=10**6))
    found = Desk(tmp_path, desk, url, upstream)
    with found.client:
        yield found
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
    handler.close()


def pieces(r: random.Random) -> Callable[[str], list[str]]:
    """Cuts a text so often that no secret in it stays whole."""

    def cut(text: str) -> list[str]:
        found = []
        while text:
            at = r.randint(1, 7)
            found.append(text[:at])
            text = text[at:]
        return found

    return cut


def split(data: bytes, r: random.Random) -> Iterator[bytes]:
    """Bytes as a network may bring them: cut anywhere, within a character too."""
    while data:
        at = r.randint(1, 4000)
        yield data[:at]
        data = data[at:]


def chat(say: Say) -> dict[str, Any]:
    """A request for a chat completion that has a secret wherever a text can stand."""
    return {
        "model": say(),
        "messages": [
            {"role": "system", "content": say()},
            {
                "role": "user",
                "content": [{"type": "text", "text": say()}, {"type": "text", "text": say()}],
                "name": "x",
            },
            {"role": "assistant", "content": say(), "tool_calls": [call(say)]},
            {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"found": [say()], "at": say()})},
            {"role": "assistant", "content": say(), "reasoning_content": say(), "audio": {"transcript": say()}},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://x.org/?q={say()}"}}]},
        ],
        "tools": [tool(say)],
        "user": say(),
        "metadata": {"more": say(), say(): "x"},
        "stop": [say()],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": say()}}},
        "unheard_of": {"deep": [say()]},
    }


def messages(say: Say) -> dict[str, Any]:
    """The same in Anthropic's manner."""
    asked = anthropic(say)
    more = {"max_tokens": 9, "metadata": {"user_id": say()}, "stop_sequences": [say()], "container": say()}
    return {name: asked[name] for name in ("model", "system", "tools", "messages")} | more


def responses(say: Say) -> dict[str, Any]:
    """The same of OpenAI's responses."""
    return {
        "model": say(),
        "instructions": say(),
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": say()}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": say()}]},
            {"type": "function_call", "call_id": "c1", "name": "send", "arguments": json.dumps({"note": say()})},
            {"type": "function_call_output", "call_id": "c1", "output": say()},
            {"type": "mcp_call", "id": "m", "name": "x", "server_label": say(), "arguments": "{}", "output": say()},
        ],
        "tools": [{"type": "function", "name": "send", "description": say(), "parameters": {}}],
        "user": say(),
        "metadata": {"more": say()},
        "prompt_cache_key": say(),
        "safety_identifier": say(),
        "prompt": {"id": say(), "variables": {"name": say()}},
    }


ASKED: dict[str, Callable[[Say], dict[str, Any]]] = {
    "chat/completions": chat,
    "messages": messages,
    "responses": responses,
}


def answer(say: Say) -> scripted.Say:
    return scripted.Say(
        text=say(),
        thought=say(),
        calls=(("c1", "send", json.dumps({"note": say(), "deep": [say()]})), ("c2", "send", json.dumps([say()]))),
    )


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [False, True])
def test_no_call_of_a_model_leaves_one(planted: Desk, monkeypatch: pytest.MonkeyPatch, path: str, stream: bool) -> None:
    r, whole = random.Random(7), scripted.as_sse
    monkeypatch.setattr(scripted, "halves", pieces(r))
    monkeypatch.setattr(scripted, "as_sse", lambda *given, **more: split(b"".join(whole(*given, **more)), r))
    said, count = Spoken(PLANTS), 0
    while not said.done:
        body, count = ASKED[path](said.__next__) | {"stream": stream}, count + 1
        planted.upstream.script[0] = answer(said.__next__)
        name = f"/t/{count}" if count % 2 else ""
        got = planted.client.post(f"{planted.url}/w/desk{name}/v1/{path}", json=body)
        assert got.status_code == 200, got.text
    assert len(planted.upstream.seen) == count
    assert planted.settled().trajectories == count
    rows = planted.rows()
    assert sum(sum(json.loads(row["metadata"]).get("redactions", {}).values()) for row in rows) > 1500
    assert {row["end_state"] for row in rows} == {"partial"}, "the calls of tools at the end have no results"


@pytest.mark.parametrize("path", ASKED)
def test_a_secret_is_found_wherever_a_stream_cuts_it(planted: Desk, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    kinds = {plant.kind: plant for plant in PLANTS}
    key, card = kinds["GITHUB_TOKEN"], kinds["CARD"]
    said = scripted.Say(
        text=key.text,
        thought=card.text,
        calls=(("c1", "send", json.dumps({"to": kinds["EMAIL"].value, "key": key.value})),),
    )
    planted.upstream.script[0] = said
    longest = max(map(len, (key.text, card.text, said.calls[0][2])))
    for at in range(1, longest):
        monkeypatch.setattr(scripted, "halves", lambda text, at=at: [text[:at], text[at:]] if text[at:] else [text])
        body = {"model": "m", "max_tokens": 9, "stream": True}
        asked = [{"role": "user", "content": f"Go on with {at}."}]
        body |= {"input": asked} if path == "responses" else {"messages": asked}
        planted.client.post(f"{planted.url}/w/desk/v1/{path}", json=body)
    assert planted.settled().trajectories == longest - 1
    for row in planted.rows():
        last = row["steps"][-1]
        assert last["content"] == key.text.replace(key.value, "<GITHUB_TOKEN>")
        assert "<CARD>" in last["reasoning"]
        assert json.loads(last["tool_calls"][0]["arguments"]) == {"to": "<EMAIL>", "key": "<GITHUB_TOKEN>"}


def test_no_error_of_an_upstream_leaves_one(planted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
    said, count = Spoken(PLANTS), 0
    while not said.done:
        say = said.__next__
        error = {"type": say(), "message": "\n".join(say() for _ in range(20)), "param": say(), "code": say()}
        planted.upstream.script[0] = Fail(status=(400, 429, 500)[count % 3], error=error)
        path, count = ("messages", "chat/completions")[count % 2], count + 1
        planted.client.post(f"{planted.url}/w/desk/v1/{path}", json=ask | {"stream": count % 4 == 0})
    # An error event within a stream, and a stream that breaks off.
    monkeypatch.setattr(scripted, "as_sse", lambda *_, **__: [b'data: {"error": ' + line.encode() + b"}\n\n"])
    for plant in OF_EACH:
        line = json.dumps({"message": plant.text, "code": plant.text})
        planted.upstream.script[0] = scripted.Say(text="")
        for path in ("chat/completions", "messages"):
            planted.client.post(f"{planted.url}/w/desk/v1/{path}", json=ask | {"stream": True})
    assert planted.settled().trajectories > 0
    # Rows come in the order of random ids: one without an error may be the first.
    assert any("<" in json.loads(row["metadata"]).get("error", "") for row in planted.rows())


def test_what_is_cut_off_within_a_secret_keeps_no_part_of_it(planted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error for its length, an answer for a connection that broke."""
    long = [plant for plant in SHORT[: len(KINDS)] if len(plant.value) > 30]
    ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    where = f"{planted.url}/w/desk/v1"
    for plant in long:
        before = plant.text[: plant.text.index(plant.value) + len(plant.value) - 2]  # all of it but two characters
        lead = "word " * 400
        message = lead[len(before) + len("500 ") :] + plant.text
        planted.upstream.script[0] = Fail(status=500, error={"message": message})
        planted.client.post(f"{where}/chat/completions", json=ask)
        called = (("c1", "send", json.dumps({"note": plant.text})),)
        for path, said, events in (
            ("chat/completions", scripted.Say(text=plant.text), 2),
            ("chat/completions", scripted.Say(thought=plant.text), 2),
            ("messages", scripted.Say(calls=called), 5),
        ):
            monkeypatch.setattr(scripted, "halves", lambda text, n=len(before): [text[:n], text[n:]])
            planted.upstream.script[0] = Fail(after=events, say=said)
            with suppress(httpx.HTTPError):
                planted.client.post(f"{where}/{path}", json=ask | {"stream": True})
    states = [row["end_state"] for row in planted.rows()] if planted.settled(*parts(long)) else []
    assert (states.count("failed"), states.count("partial")) == (len(long), 3 * len(long))


def test_the_password_of_an_upstream_is_not_told(live: Live, desk: Home) -> None:
    url = live(desk, Config(openai="http://ann:hunter-77@127.0.0.1:1/v1?key=hunter-78"))
    answer = httpx.post(f"{url}/w/desk/v1/chat/completions", json={"model": "m", "messages": []})
    assert answer.status_code == 502 and "http://127.0.0.1:1/v1" in answer.text
    assert "hunter" not in answer.text


def parts(sayings: list[Plant]) -> list[str]:
    """What is random in them, or some of it: vendors' prefixes are no secret."""
    return [plant.value[14:24] for plant in sayings]


def test_no_name_path_query_or_key_leaves_one(planted: Desk) -> None:
    said, keys = Spoken(SHORT), [plant.value for plant in SHORT]
    token, _ = access.issue(planted.home, "desk", ("admin",), name="agent")
    mine = {"X-Flywheel-Token": token}
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    while not said.done:
        names = ("Trajectory", "Task", "Task-Group", "Task-Type", "Agent", "Agent-Version", "Unheard-Of")
        headers: dict[str, Any] = {f"X-Flywheel-{name}": next(said).encode() for name in names}
        headers |= {"Authorization": f"Bearer {keys.pop()}".encode(), "x-api-key": keys.pop().encode()}
        query = quote(next(said), safe="")
        planted.client.post(
            f"{planted.url}/w/desk/v1/chat/completions?api-key={query}", json=ask, headers=headers | mine
        )
    for plant in [plant for plant in OF_EACH if plant in SHORT][::2]:
        name = quote(plant.text, safe="")
        value = quote(plant.value, safe="")
        both = {"Authorization": f"Bearer {token}:{plant.value}".encode()}
        planted.client.post(f"{planted.url}/w/desk/t/{name}/v1/chat/completions", json=ask, headers=both)
        planted.client.post(f"{planted.url}/w/desk/t/{name}/end", headers=mine)
        planted.client.get(f"{planted.url}/w/desk/v1/models/{name}?q={value}", headers=mine)
        for refused in (
            f"{planted.url}/{name}?token={value}",
            f"{planted.url}/w/{name}/v1/chat/completions",
            f"{planted.url}/api/v1/workspaces/{name}/trajectories",
            f"{planted.url}/api/v1/workspaces/desk/trajectories/{name}",
            f"{planted.url}/api/v1/workspaces/desk/trajectories?agent={name}&cursor={value}",
            f"{planted.url}/api/v1/workspaces/desk/exports/{name}",
        ):
            for headers in (mine, {"Authorization": f"Bearer fw_{plant.value}".encode()}, both):
                assert planted.client.get(refused, headers=headers).status_code in (200, 400, 401, 403, 404, 405)
    hidden = [plant.value for plant in SHORT if quote(plant.value, safe="") != plant.value]
    settled = planted.settled(token, *(quote(value, safe="") for value in hidden))
    assert settled.trajectories > 100


@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf"])
def test_no_trace_and_no_log_record_leaves_one(planted: Desk, kind: str) -> None:
    said = Spoken(PLANTS)
    spans, events = [], []
    while not said.done:
        say, number = said.__next__, len(spans) + 1
        own = {"id": f"{number:016x}", "trace": f"{number:032x}"}
        told = [{"name": say(), "timeUnixNano": "1", "attributes": pairs({say(): say()})}]
        told.append({"name": "gen_ai.user.message", "timeUnixNano": "1", "attributes": pairs({"content": say()})})
        more = {"name": say(), "events": told, "status": {"code": 2, "message": say()}}
        spans.append(span(attributes(say) | {say(): say()}, **own, **more))
        spans[-1]["links"] = [{"traceId": own["trace"], "spanId": own["id"], "attributes": pairs({"x": say()})}]
        asked = [{"role": "user", "parts": [{"type": "text", "content": say()}]}]
        record = {"gen_ai.input.messages": json.dumps(asked), "gen_ai.output.messages": [{"role": "assistant"}]}
        events.append(
            {
                "eventName": ("gen_ai.client.inference.operation.details", "gen_ai.choice", "exception")[number % 3],
                "timeUnixNano": "1",
                "traceId": own["trace"],
                "spanId": own["id"],
                "attributes": pairs(record | {say(): say()}),
                "body": typed({"message": {"role": "assistant", "content": say()}}),
            }
        )
    assert len(spans) > 100
    resource = {"attributes": pairs({"service.name": PLANTS[0].text, "service.version": PLANTS[1].text, "x": "y"})}
    traces = request(*spans)
    traces["resourceSpans"][0]["resource"] = resource
    logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": events}]}]}
    bad = request(*(one | {"spanId": "", "traceId": ""} for one in spans))
    cut = request(
        *(one | {"attributes": pairs({"gen_ai.input.messages": [PLANTS[n].text]})} for n, one in enumerate(spans))
    )
    ids = [id for one in spans for id in (one["traceId"], one["spanId"])]
    for signal, body in (("traces", traces), ("logs", logs), ("traces", bad), ("traces", cut), ("metrics", traces)):
        data = (
            json.dumps(body).encode() if kind.endswith("json") or signal == "metrics" else protobuf(signal, body, *ids)
        )
        where, headers = f"{planted.url}/w/desk/otlp/v1/{signal}", {"Content-Type": kind}
        got = planted.client.post(where, content=data, headers=headers)
        assert got.status_code == 200, got.content
        for broken in (data[:-20], data[20:]):
            planted.client.post(where, content=broken, headers=headers)
    assert planted.settled().trajectories > 100
    assert len(planted.rows(QUARANTINE)) > 25


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": typed(value)} for key, value in attributes.items()]


def test_nothing_that_is_posted_leaves_one(planted: Desk) -> None:
    said, good, bad = Spoken(PLANTS), [], []
    while not said.done:
        good.append(json.dumps(post(said.__next__)))
    for plant in PLANTS[::3]:
        one = {"task_id": "1", "agent": "a", "steps": [{"role": "user", "content": plant.text}]}
        odd = [
            one | {plant.text: 1},
            one | {"end_state": plant.text},
            one | {"metadata": plant.text},
            one | {"steps": [{"role": plant.text, "content": "x"}]},
            one | {"started_at": plant.text},
        ]
        bad.append(json.dumps(odd[len(bad) % len(odd)]))
    cut = [line[: len(line) - 2] for line in good]
    answers = planted.client.post(f"{planted.api}/trajectories", content="\n".join([*good, *bad, *cut]), headers=LINES)
    accepted = answers.json()["accepted"]
    assert accepted >= len(good)
    for broken in (f"[{','.join(good)}", f"[{','.join(cut)}]", good[0][:-1]):
        planted.client.post(f"{planted.api}/trajectories", content=broken, headers=JSON)

    facts = [outcome(plant.text) for plant in PLANTS]
    wrong = [{"value": "x"}, {"observed_at": "x"}, {"step_index": "x"}, {"x": 1}]
    odd = [
        json.dumps(
            facts[n] | {(plant.text if k == "x" else k): plant.text for k in wrong[n % len(wrong)]},
            ensure_ascii=n % 2 > 0,
        )
        for n, plant in enumerate(PLANTS[::3])
    ]
    lines = "\n".join([*map(json.dumps, facts), *odd, *(line[:-1] for line in odd)])
    answers = planted.client.post(f"{planted.api}/outcomes", content=lines, headers=LINES)
    assert answers.json()["accepted"] == len(facts), answers.text[:500]
    planted.client.post(f"{planted.api}/outcomes", content=f"[{','.join(odd)}", headers=JSON)
    settled = planted.settled()
    assert (settled.trajectories, settled.outcomes) == (accepted, len(facts))
    assert len(planted.rows(QUARANTINE)) > len(PLANTS)


LINES, JSON = {"Content-Type": "application/x-ndjson"}, {"Content-Type": "application/json"}


def outcome(text: str) -> dict[str, Any]:
    return {
        "trajectory_id": text,
        "signal": text,
        "value": 1,
        "source": text,
        "comment": text,
        "checker_version": text,
    } | {"key": text}


def test_no_delivery_of_github_leaves_one(planted: Desk) -> None:
    secret = github.new_secret(planted.home, "desk")
    links = "".join(f"\nFlywheel-Trajectory: {plant.text}" for plant in PLANTS if " " not in plant.text)

    def deliver(event: str, payload: Any) -> int:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signed}", **JSON}
        headers["X-GitHub-Delivery"] = SHORT[0].value
        return planted.client.post(f"{planted.url}/w/desk/github", content=body, headers=headers).status_code

    texts = "\n".join(plant.text for plant in PLANTS)
    pull = pull_request(1, "closed", f"{texts}{links}", title=texts, at="2026-01-05T12:00:00Z")
    pull["sender"]["login"] = PLANTS[0].value
    assert deliver("pull_request", pull) == 200
    assert deliver("push", push(f"{texts}{links}", "Reverts octocat/hello-world#1")) in (200, 202)
    assert deliver("pull_request", json.dumps(pull).encode()[:-1]) == 400
    for plant in OF_EACH:
        odd = pull_request(2, "closed", plant.text)
        odd["pull_request"]["merged"] = plant.text
        assert deliver("pull_request", odd) == 400
        assert deliver(quote(plant.text), {}) == 202
    assert planted.settled().outcomes > 10
    assert all(row["comment"] for row in planted.rows(OUTCOMES))


def test_no_spool_keeps_one(planted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping_thread, "EVERY", 0.05)
    token, _ = access.issue(planted.home, "desk", ("admin",), name="agent")
    said = Spoken(PLANTS)
    recorder = Recorder.to(
        planted.url, "desk", spool=planted.root / "spool", token=token, agent=next(said), model=next(said)
    )
    count = 0
    with recorder.batch():
        while not said.done:
            with recorder.trajectory(id=next(said), task_id=next(said), metadata={next(said): next(said)}) as t:
                t.step(role="system", content=next(said))
                calls = [ToolCall(id="1", name="send", arguments=json.dumps({"to": next(said)}))]
                t.step(role="assistant", content=next(said), reasoning=next(said), tool_calls=calls)
                t.outcome("resolved", 1.0, source=next(said), comment=next(said))
            count += 1
    assert_nowhere(planted.root, [token, *(plant.value for plant in PLANTS)])
    assert recorder.flush(60)
    recorder.shipping.stop()
    assert planted.settled(token).trajectories == count
