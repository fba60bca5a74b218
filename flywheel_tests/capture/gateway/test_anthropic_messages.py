"""Anthropic messages: requests and answers, whole and as events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flywheel.capture.gateway import anthropic_messages
from flywheel.capture.gateway.interface import Answered
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import chat
from flywheel.capture.importers.conversations import digests
from flywheel_tests.server import upstream
from flywheel_tests.server.upstream import Say

CALL = ("toolu_1", "get_weather", '{"city": "Paris"}')


def streamed(events: list[dict[str, Any]]) -> Answered:
    stream = anthropic_messages.stream()
    ends = [stream.take(Event(e["type"].encode(), json.dumps(e).encode())) for e in events]
    assert not any(ends[:-1])
    return stream.answered()


@pytest.mark.parametrize(
    "say",
    [
        Say(text="Hello there."),
        Say(text="Looking.", thought="It is a question of weather.", calls=(CALL, ("toolu_2", "get_time", "{}"))),
        Say(calls=(CALL,)),
    ],
)
def test_a_stream_says_what_the_whole_says(say: Say) -> None:
    whole = anthropic_messages.answered(upstream.messages_whole(say))
    parts = streamed(upstream.messages_events(say))

    ours, theirs = chat.steps(parts.answers[0]), chat.steps(whole.answers[0])
    assert [(s.content, s.reasoning, s.metadata) for s in ours] == [
        (s.content, s.reasoning, s.metadata) for s in theirs
    ]
    for one, other in zip(ours[0].tool_calls, theirs[0].tool_calls, strict=True):
        assert json.loads(one.arguments) == json.loads(other.arguments)
    assert parts.details == whole.details
    assert (parts.prompt_tokens, parts.completion_tokens) == upstream.USAGE


def test_a_request() -> None:
    asked = anthropic_messages.asked(
        {
            "model": "claude",
            "max_tokens": 9,
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=fa690;"},
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            ],
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}}],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                        {"type": "text", "text": "Looking."},
                        {"type": "tool_use", "id": "a", "name": "w", "input": {"city": "Paris"}},
                        {"type": "tool_use", "id": "b", "name": "t", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "sunny"}]},
                        {"type": "tool_result", "tool_use_id": "b", "content": "no clock", "is_error": True},
                        {"type": "text", "text": "And tomorrow?"},
                    ],
                },
            ],
            "tools": [{"name": "w", "input_schema": {"type": "object"}, "cache_control": {}}],
        }
    )

    assert asked.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Looking.",
            "reasoning_content": "Hm.",
            "signatures": ["sig"],
            "tool_calls": [
                {"id": "a", "function": {"name": "w", "arguments": '{"city":"Paris"}'}},
                {"id": "b", "function": {"name": "t", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": "no clock", "is_error": True},
        {"role": "user", "content": "And tomorrow?"},
    ]
    assert asked.about == {"billing_header": "x-anthropic-billing-header: cc_version=2; cch=fa690;"}
    assert asked.tools == [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}]
    assert chat.steps(asked.messages)[4].is_error is True


def test_pictures_and_what_the_server_did_itself_stay_as_they_are() -> None:
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    cited = {"type": "text", "text": "It says so.", "citations": [{"url": "u"}]}

    answered = anthropic_messages.answered(
        {"content": [searched, cited], "usage": {"input_tokens": 1, "cache_read_input_tokens": 5}}
    )

    assert answered.answers[0][0]["content"] == [searched, {"type": "text", "text": "It says so."}]
    assert answered.details[0]["citations"] == [[{"url": "u"}]]
    assert answered.prompt_tokens == 6


def test_the_servers_own_tools_are_in_a_stream_what_clients_repeat() -> None:
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]}
    told = {**found, "content": [{"url": "u", "page_age": None}]}
    start, stop = {"type": "content_block_start"}, {"type": "message_stop"}
    delta = {"type": "content_block_delta", "index": 0}

    said = streamed(
        [
            {"type": "message_start", "message": {"id": "m", "content": []}},
            {**start, "index": 0, "content_block": {**searched, "input": {}}},
            {**delta, "delta": {"type": "input_json_delta", "partial_json": '{"query":'}},
            {**delta, "delta": {"type": "input_json_delta", "partial_json": '"x"}'}},
            {**start, "index": 1, "content_block": told},
            stop,
        ]
    ).answers[0]
    repeated = anthropic_messages.asked({"messages": [{"role": "assistant", "content": [searched, found]}]}).messages

    assert said[0]["content"] == [searched, told]
    assert digests(said) == digests(repeated)


def test_arguments_that_broke_off_stay_as_they_were_written() -> None:
    events = upstream.messages_events(Say(calls=(CALL,)))

    broken = streamed(events[:-4])

    assert broken.state == "partial"
    assert broken.answers[0][0]["tool_calls"][0]["function"]["arguments"] == '{"city":'


def test_an_error_in_the_stream_is_a_failure_with_what_came_before_it() -> None:
    events = upstream.messages_events(Say(text="As far as this"))[:5]

    failed = streamed([*events, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}])

    assert (failed.state, failed.error) == ("failed", "overloaded_error: Overloaded")
    assert failed.answers[0][0]["content"] == "As far as this"
