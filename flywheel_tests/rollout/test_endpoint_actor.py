"""A model behind OpenAI's interface: what it is asked, how its answers are read, and when it is asked again."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from flywheel import environments
from flywheel.environments.protocol import Situation, opening
from flywheel.rollout import endpoint_actor
from flywheel.rollout.endpoint_actor import EndpointActor
from flywheel.schema import FlywheelError, Step, ToolCall

CALL = {"id": "c1", "type": "function", "function": {"name": "lookup_order", "arguments": '{"order": "A1"}'}}


class Server:
    """Chat completions: prepared answers (status and body), then always the last one."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append({"path": self.path, "key": self.headers.get("Authorization")})
                self.send_error(405)

            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.asked[-1]["path"], outer.asked[-1]["key"] = self.path, self.headers.get("Authorization")
                status, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint_actor, "LONGEST", 0.01)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def answer(**message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "qwen3-8b-q4",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def situation(*steps: Step) -> Situation:
    [task] = environments.get("desk").tasks("train", 1, 0)
    return Situation(task, (*opening(task), *steps))


def test_a_step_is_asked_for_and_read(server: Server) -> None:
    server.answers = [(200, answer(content=None, reasoning_content="hm", tool_calls=[CALL]))]
    actor = EndpointActor("qwen3-8b", server.url, key="sk-1")
    call = ToolCall(id="c0", name="lookup_order", arguments='{"order":  "A0"}')
    said = (Step(role="assistant", tool_calls=(call,)), Step(role="tool", content="no", tool_call_id="c0"))
    [[act, other]] = actor.act([situation(*said)], n=2, temperature=0.5, seed=3)
    assert act.step == Step(
        role="assistant",
        reasoning="hm",
        tool_calls=(ToolCall(id="c1", name="lookup_order", arguments='{"order": "A1"}'),),
        prompt_tokens=11,
        completion_tokens=7,
        metadata='{"finish_reason":"stop","id":"chatcmpl-1","model":"qwen3-8b-q4"}',
    )
    assert (act.tokens, other.step, actor.provider) == (7, act.step, "127.0.0.1")
    asked = server.asked[0]
    assert (asked["path"], asked["key"], asked["model"]) == ("/v1/chat/completions", "Bearer sk-1", "qwen3-8b")
    assert (asked["temperature"], asked["seed"], server.asked[1]["seed"]) == (0.5, 3, 7922)
    assert asked["tools"] == list(environments.get("desk").tools)
    assert asked["messages"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c0", "type": "function", "function": {"name": "lookup_order", "arguments": '{"order":  "A0"}'}}
            ],
        },
        {"role": "tool", "content": "no", "tool_call_id": "c0"},
    ]


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.answers = [(429, {}), (503, {}), (200, answer(content="Done."))]
    [[act]] = EndpointActor("m", server.url).act([situation()], n=1, temperature=0, seed=0)
    assert act.step.content == "Done."
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": "wrong key"}, "answered 401: .*wrong key"),
        (200, b"<html>", "does not answer as chat completions do"),
        (200, {"choices": []}, "without a choice"),
        (500, {}, "answered 500"),
    ],
)
def test_what_cannot_be_answered_says_why(server: Server, status: int, body: Any, message: str) -> None:
    server.answers = [(status, body)]
    with pytest.raises(FlywheelError, match=message):
        EndpointActor("m", server.url).act([situation()], n=1, temperature=0, seed=0)


def test_addresses_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlywheelError, match="no base URL"):
        EndpointActor("m", "127.0.0.1:8000")
    monkeypatch.setattr(endpoint_actor, "LONGEST", 0.0)
    with pytest.raises(FlywheelError, match="cannot be reached"):
        EndpointActor("m", "http://127.0.0.1:9/v1").act([situation()], n=1, temperature=0, seed=0)


def test_a_key_is_handed_to_no_other_server(server: Server) -> None:
    elsewhere = Server()
    elsewhere.answers = [(200, answer(content="Mine now."))]
    server.answers, server.headers = [(302, {})], {"Location": f"{elsewhere.url}/chat/completions"}
    with pytest.raises(FlywheelError, match="answered 302"):
        EndpointActor("m", server.url, key="sk-1").act([situation()], n=1, temperature=0, seed=0)
    assert elsewhere.asked == []
    elsewhere.http.shutdown()
    elsewhere.http.server_close()
