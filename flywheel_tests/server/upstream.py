"""A scripted upstream: speaks the interfaces of models, whole and in streams, and says what it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

USAGE = (11, 7)  # tokens of every prompt and of every answer


class Say(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: thoughts, words, and calls of tools as (id, name, arguments)."""

    text: str | None = None
    thought: str | None = None
    calls: tuple[tuple[str, str, str], ...] = ()

    @property
    def finish(self) -> str:
        return "tool_calls" if self.calls else "stop"


class Fail(msgspec.Struct, frozen=True, kw_only=True):
    """An error instead of an answer; `after` is how many events of a stream come before the connection breaks."""

    status: int = 500
    error: dict[str, Any] = {}
    headers: dict[str, str] = {}
    after: int | None = None
    say: Say = Say(text="as far as this")


def halves(text: str) -> list[str]:
    """A text in pieces, as tokens come."""
    middle = max(1, len(text) // 2)
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def chat_whole(says: list[Say], id: str = "chatcmpl-1", **more: Any) -> dict[str, Any]:
    """A chat completion with a choice for each answer."""
    choices = []
    for index, say in enumerate(says):
        message: dict[str, Any] = {"role": "assistant", "content": say.text}
        if say.thought:
            message["reasoning_content"] = say.thought
        if say.calls:
            message["tool_calls"] = [
                {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in say.calls
            ]
        choices.append({"index": index, "message": message, "finish_reason": say.finish, "logprobs": None})
    usage = {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    whole = {"id": id, "object": "chat.completion", "created": 1, "model": "scripted-1", "choices": choices}
    return whole | {"usage": usage} | more


def chat_chunks(says: list[Say], id: str = "chatcmpl-1", **more: Any) -> list[dict[str, Any]]:
    """The same in chunks: choices in turn, the parts of parallel calls too, usage last."""
    lanes = []
    for index, say in enumerate(says):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if say.text is None else ""}]
        deltas += [{"reasoning_content": piece} for piece in halves(say.thought or "")]
        deltas += [{"content": piece} for piece in halves(say.text or "")]
        for at, (i, name, _) in enumerate(say.calls):
            call = {"index": at, "id": i, "type": "function", "function": {"name": name, "arguments": ""}}
            deltas.append({"tool_calls": [call]})
        for part in (0, 1):
            for at, (_, _, arguments) in enumerate(say.calls):
                piece = halves(arguments)[part : part + 1]
                deltas += [{"tool_calls": [{"index": at, "function": {"arguments": p}}]} for p in piece]
        lanes.append([(index, delta, None) for delta in deltas] + [(index, {}, say.finish)])
    base = {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "scripted-1"} | more
    chunks = []
    for at in range(max(map(len, lanes))):
        for lane in lanes:
            if at < len(lane):
                index, delta, finish = lane[at]
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
                chunks.append(base | {"choices": [choice]})
    usage = {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    return [*chunks, base | {"choices": [], "usage": usage}]


def responses_whole(say: Say, id: str = "resp_1") -> dict[str, Any]:
    """A response of OpenAI."""
    output: list[dict[str, Any]] = []
    if say.thought:
        summary = [{"type": "summary_text", "text": say.thought}]
        output.append({"id": "rs_1", "type": "reasoning", "summary": summary})
    if say.text is not None:
        text = {"type": "output_text", "text": say.text, "annotations": [], "logprobs": []}
        output.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]})
    for i, name, arguments in say.calls:
        call = {"id": f"fc_{i}", "type": "function_call", "call_id": i, "name": name, "arguments": arguments}
        output.append(call | {"status": "completed"})
    usage = {
        "input_tokens": USAGE[0],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": USAGE[1],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(USAGE),
    }
    return {
        "id": id,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "scripted-1",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
        "metadata": {},
    }


def responses_events(say: Say, id: str = "resp_1") -> list[dict[str, Any]]:
    """The same as events."""
    whole = responses_whole(say, id)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for at, item in enumerate(whole["output"]):
        where = {"output_index": at, "item_id": item["id"]}
        if item["type"] == "reasoning":
            events.append({"type": "response.output_item.added", "output_index": at, "item": item | {"summary": []}})
            part = {"type": "summary_text", "text": ""}
            events.append({"type": "response.reasoning_summary_part.added", **where, "summary_index": 0, "part": part})
            for piece in halves(item["summary"][0]["text"]):
                kind = "response.reasoning_summary_text.delta"
                events.append({"type": kind, **where, "summary_index": 0, "delta": piece})
        elif item["type"] == "message":
            events.append({"type": "response.output_item.added", "output_index": at, "item": item | {"content": []}})
            part = {"type": "output_text", "text": "", "annotations": []}
            events.append({"type": "response.content_part.added", **where, "content_index": 0, "part": part})
            for piece in halves(item["content"][0]["text"]):
                kind = "response.output_text.delta"
                events.append({"type": kind, **where, "content_index": 0, "delta": piece, "logprobs": []})
        else:
            begun = item | {"arguments": ""}
            events.append({"type": "response.output_item.added", "output_index": at, "item": begun})
            for piece in halves(item["arguments"]):
                events.append({"type": "response.function_call_arguments.delta", **where, "delta": piece})
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def messages_whole(say: Say, id: str = "msg_1") -> dict[str, Any]:
    """A message of Anthropic."""
    content: list[dict[str, Any]] = []
    if say.thought:
        content.append({"type": "thinking", "thinking": say.thought, "signature": "sig"})
    if say.text is not None:
        content.append({"type": "text", "text": say.text})
    for i, name, arguments in say.calls:
        content.append({"type": "tool_use", "id": i, "name": name, "input": json.loads(arguments)})
    stop = "tool_use" if say.calls else "end_turn"
    usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1]}
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": "scripted-1",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def messages_events(say: Say, id: str = "msg_1") -> list[dict[str, Any]]:
    """The same as events, with the arguments of calls as they were written."""
    whole = messages_whole(say, id)
    begun = whole | {"content": [], "stop_reason": None, "usage": {"input_tokens": USAGE[0], "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    written = [arguments for _, _, arguments in say.calls]
    for at, block in enumerate(whole["content"]):
        if block["type"] == "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif block["type"] == "text":
            start = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
        else:
            start = block | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *halves(written.pop(0))]]
        events.append({"type": "content_block_start", "index": at, "content_block": start})
        events += [{"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": at})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": USAGE[1]}})
    return [*events, {"type": "message_stop"}]


def as_sse(events: list[dict[str, Any]], *, named: bool = False, done: bool = False) -> list[bytes]:
    """Events as they stand in a stream, one by one."""
    lines = [
        (f"event: {e['type']}\n" if named else "").encode() + b"data: " + msgspec.json.encode(e) + b"\n\n"
        for e in events
    ]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


class Upstream:
    """Answers requests by `script`, one entry each, and the last one again when it is used up; `seen` are the requests.

    With `stepwise` each event of a stream waits for `step()`. `hung_up` is set when a client goes away in a stream.
    """

    def __init__(self, *script: list[Say] | Say | Fail, stepwise: bool = False, extra: dict[str, Any] | None = None):
        self.script: deque[list[Say] | Say | Fail] = deque(script or [Say(text="Hello there.")])
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.stepwise, self.extra = stepwise, extra or {}
        self.hung_up = threading.Event()
        self.url = ""
        self._steps = threading.Semaphore(0)
        self._number = 0
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "DELETE"])])

    def step(self, count: int = 1) -> None:
        """Let so many events go."""
        self._steps.release(count)

    async def _answer(self, request: Request) -> Response:
        """Answer one request."""
        body = await request.body()
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append((request.method, target, dict(request.headers), body))
        said = self.script.popleft() if len(self.script) > 1 else self.script[0]
        self._number += 1
        broken = None
        if isinstance(said, Fail):
            if said.after is None:
                return JSONResponse({"error": said.error}, said.status, said.headers)
            broken, said = said.after, said.say
        says = said if isinstance(said, list) else [said]
        asked = json.loads(body) if body[:1] == b"{" else {}
        path = request.url.path
        if path.endswith("/chat/completions"):
            id = f"chatcmpl-{self._number}"
            whole, events = chat_whole(says, id, **self.extra), chat_chunks(says, id, **self.extra)
            pieces = as_sse(events, done=True)
        elif path.endswith("/responses"):
            id = f"resp_{self._number}"
            whole, pieces = responses_whole(says[0], id), as_sse(responses_events(says[0], id), named=True)
        elif path.endswith("/messages"):
            id = f"msg_{self._number}"
            whole, pieces = messages_whole(says[0], id), as_sse(messages_events(says[0], id), named=True)
        else:
            return JSONResponse({"object": "list", "data": [{"id": "scripted-1", "object": "model"}]})
        headers = {"x-request-id": f"req-{self._number}", "x-ratelimit-remaining": "9"}
        if not asked.get("stream"):
            if broken is None:
                return Response(msgspec.json.encode(whole), headers=headers, media_type="application/json")
            pieces = [msgspec.json.encode(whole)]
        kind = "text/event-stream; charset=utf-8" if asked.get("stream") else "application/json"
        return StreamingResponse(self._stream(pieces, broken), headers=headers, media_type=kind)

    async def _stream(self, pieces: list[bytes], broken: int | None) -> AsyncIterator[bytes]:
        try:
            for number, piece in enumerate(pieces):
                if number == broken:
                    raise ConnectionAbortedError("by the script")
                while self.stepwise and not self._steps.acquire(blocking=False):
                    await asyncio.sleep(0.002)
                yield piece
                if broken is not None or self.stepwise:
                    await asyncio.sleep(0.005)
        except (asyncio.CancelledError, GeneratorExit):
            self.hung_up.set()
            raise


class Port:
    """One server for any number of upstreams, each under a path of its own."""

    def __init__(self) -> None:
        self._upstreams: list[Upstream] = []
        self._url = ""

    def add(self, upstream: Upstream) -> Upstream:
        """Serve an upstream; its `url` is where."""
        upstream.url = f"{self._url}/{len(self._upstreams)}"
        self._upstreams.append(upstream)
        return upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the upstream that a path names."""
        if scope["type"] == "http":
            number, _, path = scope["path"][1:].partition("/")
            await self._upstreams[int(number)].app({**scope, "path": f"/{path}"}, receive, send)

    @contextmanager
    def open(self) -> Iterator[Port]:
        """Listen while the block lasts."""
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            self._url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            yield self
        finally:
            server.should_exit = True
            thread.join(60)
