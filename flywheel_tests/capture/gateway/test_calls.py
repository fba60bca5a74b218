"""Calls: whatever a client or an upstream writes, an exchange comes of it that can be stored."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.gateway.calls import INTERFACES, Call, Named, Request
from flywheel.capture.gateway.remembered import Remembered
from flywheel.capture.importers import chat
from flywheel.capture.importers.conversations import digests
from flywheel.capture.journals.exchanges import Exchange
from flywheel_tests.server import upstream
from flywheel_tests.server.upstream import Say

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SAY = Say(text="Sunny.", thought="Look.", calls=(("call_1", "get_weather", '{"city": "Paris"}'),))

# The names that the interfaces read, with any values under them.
NAMES = [
    "messages",
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "arguments",
    "id",
    "name",
    "index",
    "choices",
    "delta",
    "message",
    "usage",
    "input",
    "output",
    "instructions",
    "system",
    "tools",
    "input_schema",
    "custom",
    "item",
    "response",
    "status",
    "error",
    "summary",
    "call_id",
    "output_index",
    "part",
    "finish_reason",
    "logprobs",
    "token_ids",
    "tool_use_id",
    "thinking",
    "content_block",
    "partial_json",
    "function_call",
    "reasoning_content",
    "content_index",
    "summary_index",
]
KINDS = [
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "tool_use",
    "tool_result",
    "thinking",
    "function_call",
    "function_call_output",
    "reasoning",
    "message",
    "response.output_item.added",
    "response.output_text.delta",
    "response.completed",
    "content_block_start",
    "content_block_delta",
    "input_json_delta",
    "message_start",
    "message_delta",
    "message_stop",
    "error",
]
EVENTS = [
    *("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop"),
    *("response.created", "response.output_item.added", "response.output_item.done", "response.completed"),
    *(f"response.{kind}.delta" for kind in ("output_text", "refusal", "reasoning_text", "reasoning_summary_text")),
    *(f"response.{kind}.delta" for kind in ("function_call_arguments", "custom_tool_call_input")),
    *("error", "chat.completion.chunk"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(KINDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def call(path: str, body: Any, bound: int = 10_000) -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = Named(trajectory="run-7", about={"agent": "coder"})
    request = Request(api=INTERFACES[path], body=data, upstream="https://api.openai.com/v1", named=named, at=NOON)
    return Call(request, bound=bound, clock=Clock())


def storable(exchange: Exchange | None) -> None:
    """What settling does with an exchange can be done with this one."""
    if exchange:
        digests(exchange.messages, b"")
        for answer in exchange.answers or [[]]:
            digests(answer, b"")
            chat.steps(exchange.messages + answer)
        assert len(exchange.details) == len(exchange.answers)
        assert msgspec.json.decode(msgspec.json.encode(exchange), type=Exchange) == exchange


@pytest.mark.parametrize("path", INTERFACES)
@settings(max_examples=50)
@given(body=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), answer=VALUES)
def test_any_request_and_any_answer_can_be_stored(path: str, body: Any, answer: Any) -> None:
    one = call(path, body)
    one.began(200, "application/json", "")
    one.feed(json.dumps(answer).encode())

    storable(one.exchange(Remembered()))


@pytest.mark.parametrize("path", INTERFACES)
@settings(max_examples=100)
@given(
    events=st.lists(
        st.builds(
            lambda kind, item, said: said | {"type": kind, "item": item, "content_block": item, "delta": item},
            st.sampled_from(EVENTS),
            VALUES | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
            st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
        ),
        max_size=6,
    )
)
def test_any_stream_can_be_stored(path: str, events: list[Any]) -> None:
    one = call(path, {"messages": [{"role": "user", "content": "Hi"}], "input": "Hi"})
    one.began(200, "text/event-stream", "")
    for event in events:
        one.feed(b"data: " + json.dumps(event).encode() + b"\n\n")

    storable(one.exchange(Remembered(), "the client went away"))


@given(st.binary(max_size=60))
def test_any_bytes_can_be_stored(data: bytes) -> None:
    for kind in ("text/event-stream", "application/json"):
        one = call("chat/completions", data)
        one.began(200, kind, "")
        one.feed(data)
        storable(one.exchange(Remembered()))


STREAMS: dict[str, Callable[[], list[bytes]]] = {
    "chat/completions": lambda: upstream.as_sse(upstream.chat_chunks([SAY, SAY]), done=True),
    "responses": lambda: upstream.as_sse(upstream.responses_events(SAY), named=True),
    "messages": lambda: upstream.as_sse(upstream.messages_events(SAY), named=True),
}


@pytest.mark.parametrize("path", INTERFACES)
@settings(max_examples=50)
@given(data=st.data())
def test_the_pieces_of_a_stream_change_nothing(path: str, data: st.DataObject) -> None:
    stream = b"".join(STREAMS[path]())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    one, other = call(path, {}), call(path, {})
    for listening in (one, other):
        listening.began(200, "text/event-stream", "")

    last = other.feed(stream)
    ends = [one.feed(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert last is not None
    assert any(end is not None for end in ends)
    said, expected = one.exchange(Remembered()), other.exchange(Remembered())
    assert said
    assert expected
    assert (said.answers, said.state) == (expected.answers, "completed")


def test_the_fields_of_an_exchange() -> None:
    one = call("chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0})
    one.began(200, "text/event-stream; charset=utf-8", "")
    for piece in STREAMS["chat/completions"]():
        one.feed(piece)

    exchange = one.exchange(Remembered())

    assert exchange
    assert (exchange.thread, exchange.named, exchange.provider) == ("run-7", True, "openai")
    assert (exchange.model, exchange.prompt_tokens, exchange.completion_tokens) == ("scripted-1", *upstream.USAGE)
    assert exchange.about == {
        "api": "chat.completions",
        "upstream": "api.openai.com",
        "parameters": {"temperature": 0},
        "agent": "coder",
    }
    assert [d["finish_reason"] for d in exchange.details] == ["tool_calls", "tool_calls"]
    assert exchange.details[0]["first_token_s"] == 1
    assert exchange.details[0]["seconds"] == 2
    assert exchange.ended_at - exchange.started_at == timedelta(seconds=2)


def test_a_packed_answer_is_read_up_to_the_bound() -> None:
    whole = json.dumps(upstream.chat_whole([Say(text="x" * 50_000)])).encode()
    found = []
    for bound in (100_000, 9_000):
        one = call("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, bound)
        one.began(200, "application/json", "deflate")
        one.feed(zlib.compress(whole))
        found.append(one.exchange(Remembered()))

    assert [exchange and exchange.state for exchange in found] == ["completed", "partial"]
    assert found[1]
    assert found[1].error == "the answer is longer than 9000 bytes: not all of it was kept"


def _members(data: bytes) -> bytes:
    return gzip.compress(data[:40]) + gzip.compress(data[40:])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", _members),
        ("br", lambda data: pa.Codec("brotli").compress(data, asbytes=True)),
        ("ZSTD", lambda data: pa.Codec("zstd").compress(data, asbytes=True)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_read_however_it_is_packed(encoding: str, pack: Callable[[bytes], bytes], stream: bool) -> None:
    whole = json.dumps(upstream.chat_whole([Say(text="Hi")])).encode()
    packed = pack(b"".join(STREAMS["chat/completions"]()) if stream else whole)
    one = call("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, 9_000)
    one.began(200, "text/event-stream" if stream else "application/json", encoding)
    for at in range(0, len(packed), 7):
        one.feed(packed[at : at + 7])

    exchange = one.exchange(Remembered())
    assert exchange
    assert (exchange.state, exchange.error) == ("completed", "")
    assert exchange.answers[0][0]["content"] == ("Sunny." if stream else "Hi")


@pytest.mark.parametrize("encoding", ["br", "gzip", "compress"])
def test_an_answer_that_cannot_be_unpacked_says_so(encoding: str) -> None:
    one = call("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
    one.began(200, "application/json", encoding)
    one.feed(b"neither of them")

    exchange = one.exchange(Remembered())

    assert exchange
    assert (exchange.state, exchange.answers) == ("partial", [])
    assert exchange.error.startswith("the answer is ")


@pytest.mark.parametrize(("word", "kept"), [(rb"cut \ud83d", "cut \ufffd"), (b"Hi", "Hi"), (b"\xff", "\ufffd")])
def test_a_request_that_is_not_quite_json_is_kept(word: bytes, kept: str) -> None:
    one = call("chat/completions", b'{"messages": [{"role": "user", "content": "%s"}], "temperature": NaN}' % word)
    one.began(200, "Application/JSON", "")
    one.feed(b'{"choices": [{"message": {"content": "ok"}}]}')

    exchange = one.exchange(Remembered())
    assert exchange
    assert [message["content"] for message in exchange.messages] == [kept]
    storable(exchange)


def test_how_the_kind_of_an_answer_is_written_does_not_matter() -> None:
    one = call("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
    one.began(200, "Text/Event-Stream; charset=UTF-8", "")

    assert one.streams


def test_an_answer_that_is_no_json_is_told() -> None:
    one = call("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
    one.began(200, "text/html", "")
    one.feed(b"<html>log in</html>")

    exchange = one.exchange(Remembered())
    assert exchange
    assert (exchange.state, exchange.error) == ("partial", "the answer is no JSON object: <html>log in</html>")


@pytest.mark.parametrize("named", ["conv_1", {"id": "conv_1"}])
def test_a_request_of_a_conversation_is_told_whole(named: Any) -> None:
    remembered = Remembered()

    def said(body: dict[str, Any], text: str) -> list[Any]:
        one = call("responses", body)
        one.began(200, "application/json", "")
        one.feed(json.dumps(upstream.responses_whole(Say(text=text), f"resp_{text}")).encode())
        exchange = one.exchange(remembered)
        assert exchange
        return [message["content"] for message in exchange.messages]

    said({"input": "Hi", "instructions": "Be brief.", "conversation": named}, "One")
    said({"input": "More", "conversation": named}, "Two")

    assert said({"input": "Bye", "conversation": "conv_1"}, "Three") == ["Hi", "One", "More", "Two", "Bye"]
    assert said({"input": "Hi", "conversation": {}}, "Four") == ["Hi"]
    assert said({"input": "Hi"}, "Five") == ["Hi"]


def test_items_that_a_request_only_refers_to_are_told() -> None:
    path, remembered = "responses", Remembered()
    asked = {"role": "user", "content": "Weather?"}
    first = call(path, {"input": [asked]})
    first.began(200, "text/event-stream", "")
    for event in upstream.as_sse(upstream.responses_events(SAY), named=True):
        first.feed(event)
    first.exchange(remembered)

    references = [{"type": "item_reference", "id": id} for id in ("rs_1", "msg_1", "fc_call_1", "of_another_time")]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    exchange = call(path, {"input": [asked, *references, result]}).exchange(remembered)

    assert exchange
    assert [message["role"] for message in exchange.messages] == ["user", "assistant", "tool"]
    assert exchange.messages[1]["content"] == "Sunny."
    assert exchange.messages[1]["tool_calls"][0]["id"] == "call_1"
    assert exchange.about["item_references"] == ["of_another_time"]


def test_what_a_response_has_not_said_yet_may_be_null() -> None:
    one = call("responses", {"input": "Hi"})
    one.began(200, "text/event-stream", "")
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": None}
    thought = {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "Hm."}
    for event in ({"type": "response.output_item.added", "output_index": 0, "item": item}, thought):
        one.feed(b"data: " + json.dumps(event).encode() + b"\n\n")

    exchange = one.exchange(Remembered(), "the client went away")
    assert exchange and exchange.answers[0][0]["reasoning_content"] == "Hm."


ADDED, SAID = "response.output_item.added", "response.output_text.delta"


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("responses", [{"type": ADDED, "item": {"content": {"0": 1}}}, {"type": SAID, "delta": "Hi"}]),
        ("responses", [{"type": ADDED, "item": {"content": ["Hi"]}}, {"type": SAID, "delta": "Hi"}]),
        ("responses", [{"type": SAID, "delta": "Hi", "content_index": -1}]),
        ("messages", [{"type": "message_delta", "delta": {"usage": "x"}, "usage": {"output_tokens": 1}}]),
    ],
)
def test_a_malformed_stream_passes_all_the_same(path: str, events: list[Any]) -> None:
    one = call(path, {"messages": [{"role": "user", "content": "Hi"}], "input": "Hi"})
    one.began(200, "text/event-stream", "")
    for event in events:
        one.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    storable(one.exchange(Remembered(), "the client went away"))


def test_an_error_of_the_upstream_is_kept_as_text() -> None:
    for body, error in (
        (b'{"error": {"code": "x", "message": "no"}}', "500 x: no"),
        (b'{"detail": "not here"}', "500 not here"),
        (b"<html>", "500 <html>"),
        (b"", "500 "),
    ):
        one = call("messages", {"messages": [{"role": "user", "content": "Hi"}]})
        one.began(500, "text/html", "")
        one.feed(body)
        exchange = one.exchange(Remembered())
        assert exchange
        assert (exchange.state, exchange.error) == ("failed", error)
