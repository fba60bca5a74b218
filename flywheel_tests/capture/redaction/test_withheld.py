"""What a workspace does not keep of prompts is in no journal: not of a gateway's calls, not of spans, in any manner."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.importers import spans
from flywheel.capture.importers.dialects import Message
from flywheel.capture.importers.spans import Span
from flywheel.capture.journals.events import Spanned
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.otlp import Receiver
from flywheel.capture.redaction import boundary
from flywheel.capture.redaction import policy as policies
from flywheel.capture.redaction.boundary import Boundary
from flywheel.capture.redaction.policy import Layer, Layers
from flywheel.capture.redaction.redact import redactor
from flywheel.capture.redaction.withheld import withheld
from flywheel.capture.settling.settle import settle
from flywheel.schema import TRAJECTORIES, Trajectory, trajectory_of
from flywheel.settings import Home
from flywheel_tests.capture.importers.test_otlp import (
    CURRENT,
    EVENTS,
    INFERENCE,
    OF_BEFORE,
    VALUES,
    request,
    span,
    typed,
)
from flywheel_tests.plants import assert_nowhere

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=365)
POLICY = """
[boundary."*"]
system_prompt = "digest"
tool_schemas = "digest"
injected_memory = { how = "drop", between = ["<memory>", "</memory>"] }
retrieved_context = { how = "drop", name = "retrieve" }
"""
RULES, MEMORY, PAGE, SCHEMA = "the rules of the house", "Ann likes her tea", "a page of the wiki", "looks things up"
GONE = [RULES, MEMORY, PAGE, SCHEMA]
TOOL = {"type": "function", "function": {"name": "retrieve", "description": SCHEMA}}
SYSTEM: Message = {"role": "system", "content": RULES}
ASKED: Message = {"role": "user", "content": f"<memory>{MEMORY}</memory>What do I like?"}
CALLING: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "retrieve", "arguments": "{}"}}],
}
FOUND: Message = {"role": "tool", "tool_call_id": "c1", "content": PAGE}
ANSWER: Message = {"role": "assistant", "content": "Tea."}
HISTORY = [SYSTEM, ASKED, CALLING, FOUND, ANSWER]
LEFT = [
    "<SYSTEM_PROMPT:?>",
    "<memory><INJECTED_MEMORY></memory>What do I like?",
    None,
    "<RETRIEVED_CONTEXT>",
    "Tea.",
]


@pytest.fixture
def desk(home: Home) -> Home:
    workspaces.create(home, "desk")
    policies.save(home, "desk", POLICY)
    return home


def settled(home: Home) -> list[Trajectory]:
    """What is stored; neither before nor after is anything on disk that is not kept."""
    assert_nowhere(home.journals, GONE)
    settle(home, "desk", LATER)
    assert_nowhere(home.captures, GONE)
    return [trajectory_of(row) for row in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()]


def said(trajectory: Trajectory) -> list[str | None]:
    """What was said, digests as `?`."""
    contents = [step.content or None for step in trajectory.steps]
    return [c and (f"{c[:15]}?>" if c.startswith("<SYSTEM_PROMPT:") else c) for c in contents]


def call(id: str, messages: list[Message], *answers: Message, **fields: Any) -> Exchange:
    about = {"thread": id, "tools": [TOOL], "started_at": NOON, "ended_at": NOON + timedelta(seconds=int(id))}
    return Exchange(id=id, messages=messages, answers=[[answer] for answer in answers], **(about | fields))


def test_calls_of_the_gateway_are_written_without_and_still_joined(desk: Home) -> None:
    more = [*HISTORY, {"role": "user", "content": f"<memory>{MEMORY}</memory>And cake?"}]
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        threads.put(call("1", HISTORY[:2], CALLING, details=[{"prompt_token_ids": [1], "token_ids": [2]}])).result(9)
        second = threads.put(call("2", HISTORY[:4], ANSWER)).result(9)
        assert second.after == "1", "the chain in memory is of what was said"
    with Writer(desk, "desk") as writer:  # after a restart it is written whole, and cut in the same places
        third = Threads(desk, "desk", writer).put(call("3", more, {"role": "assistant", "content": "No."})).result(9)
        assert third.after is None
    [row] = settled(desk)
    assert said(row) == [*LEFT, "<memory><INJECTED_MEMORY></memory>And cake?", "No."]
    assert row.tools == "[]"
    about = json.loads(row.metadata)
    digest = about["boundary"]["tool_schemas"].pop("digest")
    assert len(digest) == 12
    assert about["exchanges"] == ["1", "2", "3"]
    assert about["boundary"] == {
        "system_prompt": {"how": "digest", "count": 1},
        "injected_memory": {"how": "drop", "count": 2},
        "retrieved_context": {"how": "drop", "count": 1},
        "tool_schemas": {"how": "digest", "count": 1},
    }
    assert json.loads(row.steps[2].metadata)["withheld"] == ["prompt_token_ids"]
    assert json.loads(row.steps[2].metadata)["token_ids"] == [2]
    # The same digests as of a trajectory that came in whole.
    whole = Trajectory(
        id="t", workspace="desk", task_id="1", task_group="1", task_type="", agent="a", arrived_at=NOON, source="x",
        end_state="completed", tools=json.dumps([TOOL], separators=(",", ":"), sort_keys=True), steps=row.steps[:0],
    )  # fmt: skip
    cut = boundary.of(desk, "desk", "x")
    cut.trajectory(whole)
    assert cut.about()["tool_schemas"]["digest"] == digest
    assert cut.messages([SYSTEM])[0]["content"] == row.steps[0].content


def test_parts_that_are_no_text_stay_where_only_a_part_of_the_text_goes(desk: Home) -> None:
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    parts = [{"type": "text", "text": f"<memory>{MEMORY}"}, picture, {"type": "text", "text": "</memory>Hi"}]
    cut = boundary.of(desk, "desk", "gateway")
    system, user, odd = cut.messages(
        [
            {"role": "developer", "content": [{"type": "text", "text": RULES}, picture]},
            {"role": "user", "content": parts},
            {"role": "user", "content": 7, "tool_calls": [None, {"id": []}]},
        ]
    )
    assert system["content"].startswith("<SYSTEM_PROMPT:")
    assert user["content"] == [{"type": "text", "text": "<memory><INJECTED_MEMORY></memory>Hi"}, picture]
    assert odd["content"] == 7
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        threads.put(
            call("1", [{"role": "system", "content": parts}, {"role": "user", "content": parts}], ANSWER)
        ).result(9)
    [row] = settled(desk)
    assert json.loads(row.steps[1].metadata)["parts"] == user["content"]
    assert row.steps[1].content == "<memory><INJECTED_MEMORY></memory>Hi"


ASK = [SYSTEM, ASKED, CALLING, FOUND]
PARTS = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in (SYSTEM, ASKED, ANSWER)]
CALLED = {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "retrieve", "arguments": {}}]}
GIVEN = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": PAGE}]}
CONVENTIONS: dict[str, dict[str, Any]] = {
    "current": {
        "gen_ai.operation.name": "chat",
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": RULES}]),
        "gen_ai.input.messages": json.dumps([PARTS[1], CALLED, GIVEN]),
        "gen_ai.output.messages": json.dumps([PARTS[2]]),
        "gen_ai.tool.definitions": json.dumps([TOOL]),
    },
    "OpenLLMetry": {
        "llm.request.type": "chat",
        **{
            f"gen_ai.prompt.{n}.{key}": value
            for n, m in enumerate(ASK)
            for key, value in m.items()
            if isinstance(value, str)
        },
        "gen_ai.prompt.2.tool_calls.0.id": "c1",
        "gen_ai.prompt.2.tool_calls.0.name": "retrieve",
        "gen_ai.prompt.2.tool_calls.0.arguments": "{}",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Tea.",
        "llm.request.functions.0.name": "retrieve",
        "llm.request.functions.0.description": SCHEMA,
        "traceloop.entity.input": json.dumps(ASK),
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps({"messages": ASK, "tools": [TOOL]}),
        "output.value": json.dumps({"choices": [{"message": ANSWER}]}),
        "llm.invocation_parameters": json.dumps({"tools": [TOOL]}),
        "llm.prompt_template.template": RULES,
        "llm.tools.0.tool.json_schema": json.dumps(TOOL),
    },
}


def send(home: Home, body: dict[str, Any], kind: Any = "traces") -> None:
    receiver = Receiver(lambda: redactor(home, "desk"), lambda: boundary.of(home, "desk", "otlp"))
    taken = receiver.take(kind, json.dumps(body).encode(), as_json=True)
    assert not taken.refused
    with Writer(home, "desk") as writer:
        writer.put([Spanned(at=NOON, span=one, agent="a") for one in taken.spans]).result(9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_spans_are_written_without_in_every_convention(desk: Home, convention: str) -> None:
    told = CONVENTIONS[convention] | {"gen_ai.response.model": "m-1", "gen_ai.usage.input_tokens": 7, "other": PAGE}
    events = [{"name": "any", "attributes": [{"key": "x", "value": typed(RULES)}]}]
    send(desk, request(span(told, "1" * 16, "1" * 32, events=events)))
    [row] = settled(desk)
    assert said(row) == LEFT
    assert (row.tools, row.model, row.steps[-1].prompt_tokens) == ("[]", "m-1", 7)
    assert row.steps[3].tool_name == "retrieve"
    about = json.loads(row.metadata)["boundary"]
    assert {layer: (told["how"], told["count"]) for layer, told in about.items()} == {
        "system_prompt": ("digest", 1),
        "injected_memory": ("drop", 1),
        "retrieved_context": ("drop", 1),
        "tool_schemas": ("digest", 1),
    }


def test_events_that_are_logged_apart_and_runs_of_tools_are_written_without(desk: Home) -> None:
    ids = {"traceId": "1" * 32, "spanId": "1" * 16, "timeUnixNano": "1"}
    records = [
        ids | {"eventName": f"gen_ai.{m['role']}.message", "body": typed({"content": m["content"]})}
        for m in (SYSTEM, ASKED)
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": CALLING["tool_calls"]}}
    choice |= {"finish_reason": "tool_calls"}
    records.append(ids | {"eventName": "gen_ai.choice", "body": {"kvlistValue": {"values": pairs(choice)}}})
    send(desk, {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}, "logs")
    run = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "retrieve", "gen_ai.tool.call.id": "c1"}
    model = span({"gen_ai.operation.name": "chat"}, "1" * 16, "1" * 32)
    send(desk, request(model, span(run | {"gen_ai.tool.call.result": PAGE}, "2" * 16, "1" * 32, second=3)))
    [row] = settled(desk)
    assert said(row) == LEFT[:4]
    assert json.loads(row.steps[2].metadata)["finish_reason"] == "tool_calls"
    details = {"gen_ai.input.messages": json.dumps(PARTS[:2]), "gen_ai.output.messages": json.dumps(PARTS[2:])}
    record = {"eventName": "gen_ai.client.inference.operation.details", "timeUnixNano": "1"}
    record |= {"traceId": "2" * 32, "spanId": "3" * 16, "attributes": pairs(details)}
    send(desk, {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}, "logs")
    assert [*LEFT[:2], "Tea."] in [said(row) for row in settled(desk)]


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    def value(given: Any) -> dict[str, Any]:
        if isinstance(given, dict):
            return {"kvlistValue": {"values": pairs(given)}}
        if isinstance(given, list):
            return {"arrayValue": {"values": [value(item) for item in given]}}
        return {} if given is None else typed(given)

    return [{"key": key, "value": value(given)} for key, given in attributes.items()]


SPANS = [Span(trace="t", id="s", attributes=attributes) for attributes in (CURRENT, OF_BEFORE, INFERENCE, VALUES)]
SPANS += [Span(trace="t", id="s", attributes={}, events=[*EVENTS])]
SPANS += [Span(trace="t", id="s", attributes=attributes) for attributes in CONVENTIONS.values()]
NOTHING = Boundary(Layers(injected_memory=Layer(how="drop", between=("<never>", "</never>"))), bytes)


@pytest.mark.parametrize("told", SPANS)
def test_a_span_that_is_told_anew_says_the_same(told: Span) -> None:
    # How it was asked for goes: schemas of tools and instructions may stand there.
    calls = [
        msgspec.structs.replace(call, details={n: v for n, v in call.details.items() if n != "parameters"})
        for call in spans.calls(told)
    ]
    assert spans.calls(withheld(told, NOTHING)) == calls
    assert withheld(told, boundary.whole()) is told


@given(st.lists(st.sampled_from([*HISTORY, *PARTS]), max_size=8), st.integers(0, 8))
@settings(max_examples=60)
def test_messages_are_cut_alike_however_a_conversation_is_parted(messages: list[Message], at: int) -> None:
    layers = Layers(system_prompt="drop", retrieved_context=Layer(how="drop", name="retrieve"))
    whole = Boundary(layers, bytes).messages(messages)
    assert [*Boundary(layers, bytes).messages(messages[:at]), *Boundary(layers, bytes).messages(messages, at)] == whole
    assert Boundary(layers, bytes).messages(whole) == whole
