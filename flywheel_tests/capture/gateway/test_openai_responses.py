"""OpenAI responses: requests and answers, whole and as events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flywheel.capture.gateway import openai_responses
from flywheel.capture.gateway.interface import Answered
from flywheel.capture.gateway.remembered import Remembered
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import chat
from flywheel_tests.server import upstream
from flywheel_tests.server.upstream import Say

CALL = ("call_1", "get_weather", '{"city": "Paris"}')
SAYS = [
    Say(text="Hello there."),
    Say(text="Looking.", thought="It is a question of weather.", calls=(CALL, ("call_2", "get_time", "{}"))),
    Say(calls=(CALL,)),
]


def streamed(events: list[dict[str, Any]]) -> Answered:
    stream = openai_responses.stream()
    ends = [stream.take(Event(e["type"].encode(), json.dumps(e).encode())) for e in events]
    assert not any(ends[:-1])
    return stream.answered()


@pytest.mark.parametrize("say", SAYS)
def test_a_stream_says_what_the_whole_says(say: Say) -> None:
    whole = openai_responses.answered(upstream.responses_whole(say))

    assert streamed(upstream.responses_events(say)) == whole
    assert (whole.prompt_tokens, whole.completion_tokens, whole.state) == (*upstream.USAGE, "completed")


@pytest.mark.parametrize("say", SAYS)
def test_a_stream_without_its_last_event_says_as_much_but_is_partial(say: Say) -> None:
    whole = openai_responses.answered(upstream.responses_whole(say))
    broken = streamed(upstream.responses_events(say)[:-1])

    assert broken.state == "partial"
    assert broken.answers == whole.answers


def test_deltas_alone_make_the_answer_so_far() -> None:
    events = [e for e in upstream.responses_events(SAYS[1]) if not e["type"].endswith(".done")]

    (message,) = streamed(events[:-1]).answers[0]

    assert message["content"] == "Looking."
    assert message["reasoning_content"] == "It is a question of weather."
    assert [c["function"]["name"] for c in message["tool_calls"]] == ["get_weather", "get_time"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'


def test_a_request_repeats_what_was_answered_in_the_same_form() -> None:
    answer = upstream.responses_whole(SAYS[1])
    output = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}

    asked = openai_responses.asked(
        {
            "model": "gpt",
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                *answer["output"],
                output,
            ],
            "tools": [{"type": "function", "name": "get_weather", "parameters": {}}, {"type": "web_search"}],
            "temperature": 0,
        }
    )

    assert asked.messages[:2] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
    ]
    assert asked.messages[2:3] == openai_responses.answered(answer).answers[0]
    assert asked.messages[3] == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    assert asked.tools[0] == {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    assert asked.tools[1] == {"type": "web_search", "function": {"name": "web_search"}}
    assert [step.role for step in chat.steps(asked.messages)] == ["system", "user", "assistant", "tool"]


def test_a_request_after_another_response_is_told_whole() -> None:
    remembered = Remembered()
    remembered.add("resp_1", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], 10)
    asked = openai_responses.asked({"input": "Bye", "instructions": "Be brief.", "previous_response_id": "resp_1"})
    before = remembered.messages("resp_1")

    assert before is not None
    assert [m["content"] for m in openai_responses.after(asked, before).messages] == ["Be brief.", "Hi", "Hello", "Bye"]
    assert asked.about == {"previous_response_id": "resp_1"}


def test_the_oldest_responses_are_forgotten_first() -> None:
    remembered = Remembered(bound=100)
    for number in range(3):
        remembered.add(f"resp_{number}", [], 45)

    assert [remembered.messages(f"resp_{number}") for number in range(3)] == [None, [], []]


def test_a_refusal_pictures_and_the_servers_own_tools() -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    refused = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    shown = {"type": "input_image", "image_url": "x"}

    answered = openai_responses.answered({"output": [search, refused], "status": "completed"})
    asked = openai_responses.asked(
        {"input": [{"role": "user", "content": [shown]}, {"type": "item_reference", "id": "i"}]}
    )

    assert answered.answers == [[{"role": "assistant", "content": None, "items": [search], "refusal": "No."}]]
    assert asked.messages == [{"role": "user", "content": [shown]}]


def test_tools_that_the_client_runs_untold_are_calls_with_results() -> None:
    shell = {"type": "shell_call", "id": "sh", "call_id": "a", "action": {"commands": ["ls"]}}
    patch = {"type": "apply_patch_call", "id": "ap", "call_id": "b", "operation": {"type": "delete_file", "path": "x"}}
    listed = {"type": "shell_call_output", "call_id": "a", "output": [{"stdout": "x"}]}
    done = {"type": "apply_patch_call_output", "call_id": "b", "status": "completed", "output": "Done."}

    (message,) = openai_responses.answered({"status": "completed", "output": [shell, patch]}).answers[0]
    steps = chat.steps(openai_responses.asked({"input": [shell, patch, listed, done]}).messages)

    calls = [("a", "shell", '{"commands":["ls"]}'), ("b", "apply_patch", '{"type":"delete_file","path":"x"}')]
    assert message["items"] == [shell, patch]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message["tool_calls"]] == calls
    assert [(call.id, call.name, call.arguments) for call in steps[0].tool_calls] == calls
    assert [(s.tool_call_id, s.tool_name, s.content) for s in steps[1:]] == [
        ("a", "shell", '[{"stdout":"x"}]'),
        ("b", "apply_patch", "Done."),
    ]


def test_a_response_that_failed_or_is_not_finished() -> None:
    failed = openai_responses.answered({"status": "failed", "error": {"code": "server_error", "message": "sorry"}})
    queued = openai_responses.answered({"status": "queued", "output": []})
    short = openai_responses.answered(
        {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": upstream.responses_whole(SAYS[0])["output"],
        }
    )

    assert (failed.state, failed.error) == ("failed", "server_error: sorry")
    assert queued.state == "partial"
    assert (short.state, short.details[0]["finish_reason"]) == ("completed", "max_output_tokens")
