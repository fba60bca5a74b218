"""Recorded calls of models as trajectories."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step, ToolCall
from flywheel_tests.capture.importers.conftest import NOW, Read
from flywheel_tests.server import upstream
from flywheel_tests.server.upstream import Say

CALL = Say(calls=(("c1", "weather", '{"city":"Oslo"}'),))
DONE = Say(text="Sun.")
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
STEPS = [
    Step(role="system", content="Be kind."),
    Step(role="user", content="Oslo?"),
    Step(role="assistant", tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city":"Oslo"}'),)),
    Step(role="tool", content="sun", tool_call_id="c1", tool_name="weather"),
    Step(role="assistant", content="Sun."),
]
CHAT_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "sun"},
]
ITEMS = [
    {"role": "user", "content": "Oslo?"},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "sun"},
]
BLOCKS = [
    {"role": "user", "content": "Oslo?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sun"}]},
]


def streamed(events: list[dict[str, Any]], *, named: bool) -> str:
    return b"".join(upstream.as_sse(events, named=named)).decode()


def chat(messages: list[Any], say: Say, id: str, *, stream: bool) -> dict[str, Any]:
    whole = streamed(upstream.chat_chunks([say], id), named=False) if stream else upstream.chat_whole([say], id)
    request = {"model": "m", "messages": messages, "tools": [{"type": "function", "function": FUNCTION}]}
    return {"uri": "https://api.openai.com/v1/chat/completions", "request": request, "response": whole}


def responses(items: list[Any], say: Say, id: str, *, stream: bool) -> dict[str, Any]:
    whole = streamed(upstream.responses_events(say, id), named=True) if stream else upstream.responses_whole(say, id)
    request = {"model": "m", "instructions": "Be kind.", "input": items, "tools": [{"type": "function", **FUNCTION}]}
    return {"url": "https://api.openai.com/v1/responses", "request": request, "response": whole}


def messages(blocks: list[Any], say: Say, id: str, *, stream: bool) -> dict[str, Any]:
    whole = streamed(upstream.messages_events(say, id), named=True) if stream else upstream.messages_whole(say, id)
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    request = {"model": "m", "system": "Be kind.", "messages": blocks, "tools": tools}
    return {"uri": "https://api.anthropic.com/v1/messages?beta=1", "request": request, "response": whole}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("told", [True, False], ids=["with its URL", "by its form"])
@pytest.mark.parametrize(
    ("make", "history", "provider"),
    [(chat, CHAT, "openai"), (responses, ITEMS, "openai"), (messages, BLOCKS, "anthropic")],
    ids=["OpenAI chat", "OpenAI Responses", "Anthropic messages"],
)
def test_calls_that_go_on_from_one_another_are_one_trajectory(
    read: Read, make: Any, history: list[Any], provider: str, told: bool, stream: bool
) -> None:
    calls = [make(history, DONE, "r2", stream=stream), make(history[:-2], CALL, "r1", stream=stream)]
    if not told:
        calls = [{k: v for k, v in call.items() if k not in ("uri", "url")} for call in calls]
    [record] = read(calls, "calls.jsonl")
    assert isinstance(record, Record)
    t = record.trajectory
    assert [plain(step) for step in t.steps] == STEPS
    assert [s.completion_tokens for s in t.steps if s.role == "assistant"] == [7, 7]
    assert json.loads(t.tools)[0]["function"]["name"] == "weather"
    assert (t.end_state, t.model, json.loads(t.metadata)["calls"]) == ("completed", "scripted-1", ["r1", "r2"])
    assert t.provider == (provider if told or make is messages else "")


def plain(step: Step) -> Step:
    return Step(
        role=step.role,
        content=step.content or None,
        tool_calls=tuple(ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in step.tool_calls),
        tool_call_id=step.tool_call_id,
        tool_name=step.tool_name,
    )


def test_a_response_goes_on_from_another_by_its_id(read: Read) -> None:
    first = responses(ITEMS[:1], CALL, "r1", stream=False)
    second = responses(ITEMS[2:], DONE, "r2", stream=False)
    second["request"]["previous_response_id"] = "r1"
    [record] = read([first, second], "calls.json")
    assert isinstance(record, Record)
    assert [plain(step) for step in record.trajectory.steps] == STEPS


def test_responses_with_their_input_beside_them(read: Read) -> None:
    lines = []
    for items, say, id in ((ITEMS[:1], CALL, "r1"), (ITEMS, DONE, "r2")):
        call = responses(items, say, id, stream=False)
        lines.append(
            {**call["response"], "input": items, "instructions": "Be kind.", "tools": call["request"]["tools"]}
        )
    [record] = read(lines, "responses.jsonl")
    assert isinstance(record, Record)
    assert [plain(step) for step in record.trajectory.steps] == STEPS
    [bad] = [r for r in read([*lines, {"input": "x"}], "more.jsonl") if isinstance(r, Bad)]
    assert "no list of output items" in bad.error


def test_what_is_no_call_of_a_model_is_told(read: Read) -> None:
    good = chat(CHAT[:2], DONE, "r1", stream=False)
    records = read(
        [
            good,
            {"uri": "https://x.org/v1/embeddings", "request": {"input": "x"}, "response": {}},
            {"request": {"q": 1}, "response": {}},
            {"request": 7},
            {**good, "request": {"messages": [{"role": "wizard", "content": "x"}]}},
            {**good, "request": {"messages": []}, "response": {"choices": []}},
        ],
        "calls.jsonl",
    )
    bad = [r for r in records if isinstance(r, Bad)]
    assert [r.line for r in bad] == [2, 3, 4, 5, 6]
    assert "/v1/embeddings is no call of a model" in bad[0].error and "wizard" in bad[3].error
    assert sum(isinstance(r, Record) for r in records) == 1


def test_several_choices_and_a_failed_call(read: Read) -> None:
    two = chat(CHAT[:2], DONE, "r1", stream=False)
    two["response"] = upstream.chat_whole([DONE, Say(text="Rain.")], "r1")
    lost = {**chat(CHAT[:2], DONE, "r2", stream=False), "response": {"error": {"message": "overloaded"}}}
    lost["request"] = {"messages": [{"role": "user", "content": "Rome?"}]}
    records = [r.trajectory for r in read([two, lost], "calls.jsonl") if isinstance(r, Record)]
    assert [(t.steps[-1].content, t.end_state) for t in records] == [
        ("Sun.", "completed"),
        ("Rain.", "completed"),
        ("Rome?", "failed"),
    ]
    assert "overloaded" in json.loads(records[-1].metadata)["error"]


@pytest.mark.parametrize(
    ("name", "roles", "bad"),
    [
        ("anthropic_tool_use_history", ["uata"], 0),
        ("openai_chat_tool_calls", ["ata", "ata"], 0),
        ("openai_chat_tools_stream", ["ua"], 0),
        ("openai_responses_agent_handoff", ["suatata"], 1),
        ("openai_responses_function_call", ["suata", "suata"], 1),
    ],
)
def test_real_calls(shared_data: Path, name: str, roles: list[str], bad: int) -> None:
    path = shared_data / "openllmetry" / f"{name}.openllmetry.json"
    records = list(importer_of(path).read(path, "desk", NOW))
    found = [r.trajectory for r in records if isinstance(r, Record)]
    assert ["".join(s.role[0] for s in t.steps) for t in found] == roles
    assert len(records) - len(found) == bad  # what the agent's SDK reports to its tracing is no call of a model
    streams = name.endswith("stream")
    assert all((t.steps[-1].completion_tokens is None) == streams for t in found)  # that stream told no usage


def test_what_the_server_tells_beside_an_answer_is_kept(read: Read) -> None:
    call = chat(CHAT[:2], DONE, "r1", stream=False)
    call["response"]["choices"][0] |= {"token_ids": [7], "finish_reason": "length"}
    [record] = read([call], "calls.json")

    assert isinstance(record, Record)
    about = json.loads(record.trajectory.steps[-1].metadata)
    assert (about["finish_reason"], about["token_ids"], about["response_id"]) == ("length", [7], "r1")
