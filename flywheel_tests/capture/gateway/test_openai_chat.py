"""Chat completions: requests and answers, whole and in chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flywheel.capture.gateway import openai_chat
from flywheel.capture.gateway.interface import Answered
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import chat
from flywheel_tests.server import upstream
from flywheel_tests.server.upstream import Say

CALL = ("call_1", "get_weather", '{"city": "Paris"}')
OTHER = ("call_2", "get_time", "{}")


def streamed(chunks: list[dict[str, Any]], *, done: bool = True) -> Answered:
    stream = openai_chat.stream()
    for chunk in chunks:
        assert not stream.take(Event(b"", json.dumps(chunk).encode()))
    if done:
        assert stream.take(Event(b"", b"[DONE]"))
    return stream.answered()


def deltas(*found: dict[str, Any], **choice: Any) -> list[dict[str, Any]]:
    return [{"id": "c", "choices": [{"index": 0, "delta": delta, **choice}]} for delta in found]


@pytest.mark.parametrize(
    "says",
    [
        [Say(text="Hello there.")],
        [Say(text="One"), Say(text="Two", thought="Twice."), Say(text="Three")],
        [Say(thought="Look it up.", calls=(CALL, OTHER))],
        [Say(text="Looking.", calls=(CALL,)), Say(text="No.")],
        [Say(text="")],
    ],
)
def test_a_stream_says_what_the_whole_says(says: list[Say]) -> None:
    whole = openai_chat.answered(upstream.chat_whole(says, system_fingerprint="fp"))
    parts = streamed(upstream.chat_chunks(says, system_fingerprint="fp"))

    assert [chat.steps(answer) for answer in parts.answers] == [chat.steps(answer) for answer in whole.answers]
    assert parts.details == whole.details
    assert (parts.id, parts.model, parts.state) == (whole.id, whole.model, "completed")
    assert (parts.prompt_tokens, parts.completion_tokens) == upstream.USAGE


def test_a_request() -> None:
    asked = openai_chat.asked(
        {
            "model": "gpt",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"type": "custom", "id": "a", "custom": {"name": "sh", "input": "ls"}}],
                },
                {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "a.txt"}]},
            ],
            "tools": [{"type": "custom", "custom": {"name": "sh"}}],
            "functions": [{"name": "old"}],
            "temperature": 0,
            "stream": True,
        }
    )

    assert asked.messages == [
        {"role": "developer", "content": "Be\nbrief."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "custom", "id": "a", "function": {"name": "sh", "arguments": "ls"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "a.txt"},
    ]
    assert asked.tools == [
        {"type": "function", "function": {"name": "old"}},
        {"type": "custom", "function": {"name": "sh"}},
    ]
    assert asked.parameters == {"temperature": 0, "stream": True}


def test_what_is_no_message_stays_as_text() -> None:
    asked = openai_chat.asked({"messages": [{"role": "robot", "content": "hi"}]})

    assert asked.messages == [{"role": "user", "content": '{"role":"robot","content":"hi"}', "malformed": True}]
    assert chat.steps(asked.messages)[0].content == '{"role":"robot","content":"hi"}'


def test_token_ids_and_log_probabilities_are_kept() -> None:
    chunks: list[dict[str, Any]] = [
        {"id": "c", "prompt_token_ids": [1, 2], "choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        *deltas({"content": "Hi"}, token_ids=[5], logprobs={"content": [{"token": "Hi", "logprob": -0.5}]}),
        *deltas({"content": "!"}, token_ids=[6, 7], logprobs={"content": [{"token": "!", "logprob": -0.1}]}),
        *deltas({}, finish_reason="stop", matched_stop=7),
    ]

    (details,) = streamed(chunks).details

    assert details == {
        "response_id": "c",
        "prompt_token_ids": [1, 2],
        "token_ids": [5, 6, 7],
        "logprobs": {"content": [{"token": "Hi", "logprob": -0.5}, {"token": "!", "logprob": -0.1}]},
        "finish_reason": "stop",
        "matched_stop": 7,
    }


def test_token_ids_have_one_name_whoever_tells_them() -> None:
    choice = {
        "message": {"content": "Hi"},
        "meta_info": {"output_token_logprobs": [[-0.5, 5, "Hi"]]},
        "output_ids": [5],
    }

    (details,) = openai_chat.answered({"id": "c", "input_ids": [1], "choices": [choice]}).details

    assert details == {
        "response_id": "c",
        "prompt_token_ids": [1],
        "token_ids": [5],
        "logprobs": [[-0.5, 5, "Hi"]],
    }


def test_parts_of_parallel_calls_come_in_any_order() -> None:
    def part(index: int, **call: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, **call}]}

    chunks = deltas(
        part(1, id="b", function={"name": "g", "arguments": ""}),
        part(1, function={"arguments": '{"y"'}),
        part(0, id="a", function={"name": "f", "arguments": '{"x"'}),
        part(1, function={"arguments": ":2}"}),
        part(0, function={"arguments": ":1}"}),
    )

    assert [(c["id"], c["function"]) for c in streamed(chunks).answers[0][0]["tool_calls"]] == [
        ("a", {"name": "f", "arguments": '{"x":1}'}),
        ("b", {"name": "g", "arguments": '{"y":2}'}),
    ]


def test_a_call_under_the_index_of_another_is_told_by_its_id() -> None:
    def call(id: str, name: str, arguments: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]}

    chunks = deltas(call("a", "f", '{"x"'), call("a", "f", ":1}"), call("b", "g", "{}"))

    assert [(c["id"], c["function"]) for c in streamed(chunks).answers[0][0]["tool_calls"]] == [
        ("a", {"name": "f", "arguments": '{"x":1}'}),
        ("b", {"name": "g", "arguments": "{}"}),
    ]


def test_calls_without_an_index_come_in_order() -> None:
    call = {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}
    next = {"tool_calls": [{"id": "b", "function": {"name": "g", "arguments": "{}"}}]}

    calls = streamed(deltas(call, next)).answers[0][0]["tool_calls"]

    assert [c["function"]["arguments"] for c in calls] == ['{"x":1}', "{}"]


def test_whole_calls_without_ids_are_not_run_together() -> None:
    def call(name: str, arguments: str, **more: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}

    paris, rome = call("f", '{"city": "Paris"}', index=0, id=""), call("f", '{"city": "Rome"}', index=0, id="")
    one_by_one = deltas({"tool_calls": [paris]}, {"tool_calls": [rome]})
    repeating = deltas({"tool_calls": [call("f", '{"x"', index=0)]}, {"tool_calls": [call("f", ":1}", index=0)]})

    def made(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
        calls = streamed(chunks).answers[0][0]["tool_calls"]
        return [(c["function"]["name"], c["function"]["arguments"]) for c in calls]

    assert made(one_by_one) == [("f", '{"city": "Paris"}'), ("f", '{"city": "Rome"}')]
    assert made(deltas({"tool_calls": [call("f", ""), call("g", "")]})) == [("f", ""), ("g", "")]
    assert made(repeating) == [("f", '{"x":1}')]


def test_a_message_that_is_said_whole_at_the_end_is_said_once() -> None:
    thought = {"role": "assistant", "reasoning_content": "They greet."}
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    whole = {"role": "assistant", "content": "Hello", "tool_calls": [call]}
    last = {"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "message": whole}]}

    said = streamed([*deltas(thought, {"content": "Hel"}, {"content": "lo", "tool_calls": [call]}), last])

    (message,) = said.answers[0]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "They greet.")
    assert [c["id"] for c in message["tool_calls"]] == ["a"]


def test_thoughts_among_the_parts_of_a_message() -> None:
    def thinking(text: str) -> dict[str, Any]:
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}

    said = streamed(
        deltas(
            {"role": "assistant", "content": ""},
            thinking("They "),
            thinking("greet."),
            {"content": "Hel"},
            {"content": "lo"},
        )
    )
    whole = {"role": "assistant", "content": [*thinking("They greet.")["content"], {"type": "text", "text": "Hello"}]}

    assert said.answers == [[{"role": "assistant", "content": "Hello", "reasoning_content": "They greet."}]]
    assert openai_chat.answered({"choices": [{"message": whole}]}).answers == said.answers
    assert openai_chat.asked({"messages": [whole]}).messages == said.answers[0]


def test_chunks_that_are_not_quite_json_are_read() -> None:
    stream = openai_chat.stream()
    delta = b'{"choices":[{"index":0,"delta":{"content":"%s"},"logprobs":{"content":[{"logprob":%s}]}}]}'
    for text, logprob in (
        (rb"A \ud83d", b"-Infinity"),
        (rb"\ude00 \ud83d", b"NaN"),
        (b"\xff", b"1e999"),
        (b"!", b"-1"),
    ):
        stream.take(Event(b"", delta % (text, logprob)))

    said = stream.answered()

    assert said.answers[0][0]["content"] == "A \U0001f600 \ufffd\ufffd!"
    assert [token["logprob"] for token in said.details[0]["logprobs"]["content"]] == [None, None, None, -1]


def test_the_older_function_call_a_refusal_and_a_voice() -> None:
    (message,) = streamed(
        deltas(
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}},
            {"function_call": {"arguments": "}"}},
            {"refusal": "I "},
            {"refusal": "won't."},
            {"audio": {"id": "au", "data": "AA", "expires_at": 1}},
            {"audio": {"id": "au", "data": "BB", "expires_at": 1}},
        )
    ).answers[0]

    assert message["function_call"] == {"name": "f", "arguments": "{}"}
    assert message["refusal"] == "I won't."
    assert message["audio"] == {"id": "au", "data": "AABB", "expires_at": 1}


def test_what_breaks_off_is_partial_and_an_error_in_the_stream_is_a_failure() -> None:
    begun = deltas({"role": "assistant", "content": "As far"})

    assert streamed(begun, done=False).state == "partial"
    assert streamed([*begun, *deltas({}, finish_reason="length")], done=False).state == "completed"
    failed = streamed([*begun, {"error": {"type": "overloaded", "message": "come again"}}], done=False)
    assert (failed.state, failed.error) == ("failed", "overloaded: come again")
    assert failed.answers == [[{"role": "assistant", "content": "As far"}]]
