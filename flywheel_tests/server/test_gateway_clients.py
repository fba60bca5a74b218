"""The SDKs that people use work through the gateway unchanged, and what they did comes out as trajectories."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from starlette.responses import JSONResponse, Response

from flywheel import warehouse
from flywheel.capture import access
from flywheel.capture.settling.settle import settle
from flywheel.schema import TRAJECTORIES, Trajectory, trajectory_of
from flywheel.settings import Home
from flywheel_tests.server.conftest import Through
from flywheel_tests.server.upstream import Fail, Say, Upstream

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "openllmetry"
CALL = ("call_1", "get_weather", '{"city": "Paris"}')
OTHER = ("call_2", "get_time", "{}")
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
HI: Any = {"role": "user", "content": "Weather in Paris?"}


def stored(home: Home) -> list[Trajectory]:
    """What the workspace holds once all is quiet, in the order in which it began."""
    settle(home, "desk", datetime.now(UTC) + timedelta(hours=1))
    rows = warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()
    return sorted(map(trajectory_of, rows), key=lambda t: (t.started_at or t.arrived_at, t.id))


def told(trajectory: Trajectory) -> list[tuple[str, Any]]:
    """Who said what, calls by their names."""
    return [(s.role, s.content or [call.name for call in s.tool_calls]) for s in trajectory.steps]


def of_openai(base: str, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=base, api_key="sk-test", max_retries=0, **more)


def of_anthropic(base: str, **more: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base.removesuffix("/v1"), api_key="sk-test", max_retries=0, **more)


def test_openai_chat(desk: Home, through: Through) -> None:
    base = through(Upstream(Say(text="Sunny.")))
    with of_openai(base) as client:
        whole = client.chat.completions.create(model="m", messages=[HI], temperature=0)
        chunks = list(client.chat.completions.create(model="m", messages=[HI], stream=True, temperature=0))

    assert whole.choices[0].message.content == "Sunny."
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Sunny."
    first, second = stored(desk)
    assert told(first) == told(second) == [("user", "Weather in Paris?"), ("assistant", "Sunny.")]
    assert (first.model, first.provider, first.end_state) == ("scripted-1", "127.0.0.1", "completed")
    assert json.loads(first.metadata)["parameters"] == {"temperature": 0}
    assert (first.steps[1].prompt_tokens, first.steps[1].completion_tokens) == (11, 7)
    assert json.loads(second.steps[1].metadata)["response_id"] == "chatcmpl-2"


def test_a_loop_of_openai_with_parallel_tools_is_one_trajectory(desk: Home, through: Through) -> None:
    script = [Say(thought="Ask both.", calls=(CALL, OTHER)), Say(text="Sunny, and noon.")]
    base = through(Upstream(*script))
    messages = [{"role": "system", "content": "Be brief."}, HI]
    tools: Any = [{"type": "function", "function": WEATHER}]
    with of_openai(base) as client:
        with client.chat.completions.stream(model="m", messages=messages, tools=tools) as stream:
            asked = stream.get_final_completion().choices[0].message
        messages.append(asked.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        for call, answer in zip(asked.tool_calls or [], ("sunny", "noon"), strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": answer})
        client.chat.completions.create(model="m", messages=messages, tools=tools)

    (trajectory,) = stored(desk)

    assert told(trajectory) == [
        ("system", "Be brief."),
        ("user", "Weather in Paris?"),
        ("assistant", ["get_weather", "get_time"]),
        ("tool", "sunny"),
        ("tool", "noon"),
        ("assistant", "Sunny, and noon."),
    ]
    assert trajectory.steps[2].reasoning == "Ask both."
    assert [s.tool_name for s in trajectory.steps[3:5]] == ["get_weather", "get_time"]
    assert json.loads(trajectory.tools) == tools


def test_the_choices_of_one_request_are_branches(desk: Home, through: Through) -> None:
    base = through(Upstream([Say(text="Sunny."), Say(text="Rain."), Say(calls=(CALL,))]))
    with of_openai(base) as client:
        answer = client.chat.completions.create(model="m", messages=[HI], n=3)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(str(told(t)[-1][1]) for t in stored(desk)) == ["Rain.", "Sunny.", "['get_weather']"]


def test_openai_responses(desk: Home, through: Through) -> None:
    base = through(Upstream(Say(thought="Ask.", calls=(CALL,)), Say(text="Sunny."), Say(text="Rain.")))
    tools: Any = [{"type": "function", "strict": False, **WEATHER}]
    with of_openai(base) as client:
        first = client.responses.create(model="m", input="Weather in Paris?", instructions="Be brief.", tools=tools)
        call = next(item for item in first.output if item.type == "function_call")
        items: Any = [{"role": "user", "content": "Weather in Paris?"}]
        items += [item.model_dump(exclude_none=True) for item in first.output]
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
        with client.responses.stream(model="m", input=items, instructions="Be brief.", tools=tools) as stream:
            second = stream.get_final_response()
        client.responses.create(
            model="m", input="And tomorrow?", instructions="Be brief.", previous_response_id=second.id
        )

    (trajectory,) = stored(desk)

    assert told(trajectory) == [
        ("system", "Be brief."),
        ("user", "Weather in Paris?"),
        ("assistant", ["get_weather"]),
        ("tool", "sunny"),
        ("assistant", "Sunny."),
        ("user", "And tomorrow?"),
        ("assistant", "Rain."),
    ]
    assert trajectory.steps[2].reasoning == "Ask."


def test_anthropic(desk: Home, through: Through) -> None:
    base = through(Upstream(Say(text="Looking.", thought="Ask.", calls=(CALL,)), Say(text="Sunny.")))
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER["parameters"]}]
    messages: Any = [HI]
    with of_anthropic(base) as client:
        with client.messages.stream(
            model="m", max_tokens=9, system="Be brief.", messages=messages, tools=tools
        ) as stream:
            first = stream.get_final_message()
        messages.append({"role": "assistant", "content": [block.model_dump() for block in first.content]})
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny", "is_error": False}
        messages.append({"role": "user", "content": [result, {"type": "text", "text": "Go on."}]})
        client.messages.create(model="m", max_tokens=9, system="Be brief.", messages=messages, tools=tools)
        assert client.models.list(limit=1)

    (trajectory,) = stored(desk)

    assert told(trajectory) == [
        ("system", "Be brief."),
        ("user", "Weather in Paris?"),
        ("assistant", "Looking."),
        ("tool", "sunny"),
        ("user", "Go on."),
        ("assistant", "Sunny."),
    ]
    assert trajectory.steps[2].reasoning == "Ask."
    assert trajectory.steps[2].tool_calls[0].name == "get_weather"
    assert trajectory.steps[3].is_error is False
    assert json.loads(trajectory.steps[2].metadata)["finish_reason"] == "tool_use"


def test_asynchronous_clients(desk: Home, through: Through) -> None:
    base = through(Upstream(Say(text="Sunny.")))

    async def ask() -> list[str]:
        said = []
        async with openai.AsyncOpenAI(base_url=base, api_key="sk-test") as client:
            answer = await client.chat.completions.create(model="m", messages=[HI])
            said.append(answer.choices[0].message.content or "")
            async with client.chat.completions.stream(model="m", messages=[HI]) as stream:
                said.append((await stream.get_final_completion()).choices[0].message.content or "")
            async with client.responses.stream(model="m", input="Weather in Paris?") as responding:
                said.append((await responding.get_final_response()).output_text)
        async with anthropic.AsyncAnthropic(base_url=base.removesuffix("/v1"), api_key="sk-test") as other:
            message = await other.messages.create(model="m", max_tokens=9, messages=[HI])
            said.append(getattr(message.content[0], "text", ""))
            async with other.messages.stream(model="m", max_tokens=9, messages=[HI]) as messages:
                said.append(await messages.get_final_text())
        return said

    assert asyncio.run(ask()) == ["Sunny."] * 5
    assert [told(t) for t in stored(desk)] == [[("user", "Weather in Paris?"), ("assistant", "Sunny.")]] * 5


def test_sub_agents_and_rewritten_histories_are_branches_of_one_trajectory(desk: Home, through: Through) -> None:
    script = [Say(text="One"), Say(text="Sub"), Say(text="Two"), Say(text="Three")]
    base = through(Upstream(*script)).replace("/v1", "/t/run-7/v1")

    def ask(*said: str) -> None:
        roles = ("user", "assistant")
        messages: Any = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
        client.chat.completions.create(model="m", messages=messages)

    with of_openai(base, default_headers={"X-Flywheel-Agent": "coder", "X-Flywheel-Task": "fix-1"}) as client:
        ask("Fix it.")
        ask("You are a helper: look it up.")
        ask("Fix it.", "One", "Go on.")
        ask("In short: One was said.", "Fine.", "Go on.")
    httpx.post(base.replace("/v1", "/end"))

    found = stored(desk)

    main = next(t for t in found if t.id == "run-7")
    assert told(main) == [("user", "Fix it."), ("assistant", "One"), ("user", "Go on."), ("assistant", "Two")]
    assert (main.agent, main.task_id) == ("coder", "fix-1")
    assert sorted(told(t)[-1][1] for t in found if json.loads(t.metadata).get("branch_of") == "run-7") == [
        "Sub",
        "Three",
    ]


def test_errors_reach_the_client_as_its_own(desk: Home, through: Through) -> None:
    error = {"type": "rate_limit_error", "message": "slow down"}
    base = through(Upstream(Fail(status=429, error=error)))

    with of_openai(base) as client, pytest.raises(openai.RateLimitError, match="slow down"):
        client.chat.completions.create(model="m", messages=[HI])
    with of_anthropic(base) as other, pytest.raises(anthropic.RateLimitError, match="slow down"):
        other.messages.create(model="m", max_tokens=9, messages=[HI])

    assert [t.end_state for t in stored(desk)] == ["failed", "failed"]


def test_a_stream_that_breaks_off_is_noticed_by_the_client(desk: Home, through: Through) -> None:
    base = through(Upstream(Fail(after=2, say=Say(text="as far as this"))))

    with (
        of_openai(base) as client,
        pytest.raises(Exception, match=r"peer closed|incomplete|onnection"),
    ):
        list(client.chat.completions.create(model="m", messages=[HI], stream=True))

    (trajectory,) = stored(desk)
    assert trajectory.end_state == "partial"
    assert told(trajectory)[-1] == ("assistant", "as far ")


def test_a_guarded_workspace_takes_its_token_with_the_key(desk: Home, through: Through) -> None:
    upstream = Upstream(Say(text="Sunny."))
    base = through(upstream)
    access.issue(desk, "desk", ["admin"], name="owner")
    token, _ = access.issue(desk, "desk", ["capture"], name="ci")

    with of_openai(base) as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="m", messages=[HI])
    with openai.OpenAI(base_url=base, api_key=f"{token}:sk-test") as client:
        client.chat.completions.create(model="m", messages=[HI])
    with anthropic.Anthropic(base_url=base.removesuffix("/v1"), api_key=f"{token}:sk-other") as other:
        other.messages.create(model="m", max_tokens=9, messages=[HI])
    with of_openai(base, default_headers={"X-Flywheel-Token": token}) as client:
        client.chat.completions.create(model="m", messages=[HI])

    keys = [
        headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
        for _, _, headers, _ in upstream.seen
    ]
    assert keys == ["sk-test", "sk-other", "sk-test"]
    assert not any(token in str(headers) for _, _, headers, _ in upstream.seen)
    assert len(stored(desk)) == 3


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs ../shared/data/openllmetry")
@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.glob("*.json")))
def test_recorded_answers_pass_and_are_read(desk: Home, through: Through, name: str) -> None:
    recorded = json.loads((RECORDINGS / name).read_text())

    class Replaying(Upstream):
        async def _answer(self, request: Any) -> Response:
            said = recorded[len(self.seen)]["response"]
            self.seen.append((request.method, request.url.path, {}, await request.body()))
            if isinstance(said, str):
                return Response(said, media_type="text/event-stream")
            return JSONResponse(said)

    base = through(Replaying())
    for one in recorded:
        path = one["uri"].rpartition("/v1/")[2]
        answer = httpx.post(f"{base}/{path}", json=one["request"])
        assert answer.text == one["response"] if isinstance(one["response"], str) else answer.json() == one["response"]

    found = stored(desk)

    assert found
    for trajectory in found:
        assert trajectory.steps[-1].role == "assistant"
        assert trajectory.steps[-1].content or trajectory.steps[-1].tool_calls
        assert trajectory.end_state in ("completed", "partial")
        assert "malformed" not in trajectory.metadata
