"""The champion answers chat completions itself, and is captured like any other model."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from flywheel import artifacts
from flywheel.evaluate import policy as policies
from flywheel.release import registry
from flywheel.release.gate import Reason, Verdict
from flywheel.server.completion import Asked, Completion
from flywheel.server.config import Config
from flywheel.settings import Home
from flywheel.train import policy
from flywheel.train.config import Size
from flywheel.train.tokenizer import build
from flywheel_tests.rollout.toy import Boxes
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.test_gateway import exchanges

HI: Any = [{"role": "user", "content": "it is open"}]


@pytest.fixture
def base(desk: Home, live: Live) -> str:
    """A gateway to a champion that is a tiny random model."""
    tokenizer = build(Boxes.tools, ["Done it is open"], min_count=1)
    size = Size(width=32, layers=2, heads=2, feed_forward=64, initializer_range=0.3)
    with artifacts.folder(desk.policies / "tiny") as folder:
        policy.save(policy.scratch(tokenizer, size, context=128, seed=0), tokenizer, folder / "model")
        (folder / "manifest.json").write_text("{}")
    reason = Reason(rule="better", passed=True, detail="")
    verdict = Verdict(candidate="tiny", champion=None, promote=True, reasons=(reason,))
    registry.record(desk, verdict, policy_id="tiny", digest=policies.find(desk, "tiny").digest, report="r")
    return live(desk, Config(champion=True, settle_every_s=3600)) + "/w/desk/v1"


def test_completions_whole_and_streamed(desk: Home, base: str) -> None:
    with openai.OpenAI(base_url=base, api_key="none") as client:
        wanted: Any = {"model": "champion", "messages": HI, "n": 2, "seed": 3, "max_tokens": 12, "logprobs": True}
        whole = client.chat.completions.create(**wanted)
        again = client.chat.completions.create(**wanted)
        chunks = list(client.chat.completions.create(**wanted, stream=True, stream_options={"include_usage": True}))
        greedy = client.chat.completions.create(model="champion", messages=HI, temperature=0, max_tokens=3)
        models = [model.id for model in client.models.list()]

    said = [choice.message.content or "" for choice in whole.choices]
    assert said == [choice.message.content or "" for choice in again.choices]
    for index, words in enumerate(said):
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(delta.content or "" for delta in deltas) == words
    assert whole.usage == chunks[-1].usage
    assert models == ["tiny"]
    assert whole.model == "tiny"
    assert greedy.choices[0].finish_reason in ("length", "stop")
    first, _, third, _ = exchanges(desk)
    assert (first.provider, first.model, first.state) == ("champion", "tiny", "completed")
    assert [answer[0]["content"] or "" for answer in first.answers] == said
    for one, other in zip(first.details, third.details, strict=True):
        assert one["token_ids"] == other["token_ids"]
        assert one["prompt_token_ids"] == other["prompt_token_ids"]
        assert one["logprobs"] == other["logprobs"]
        assert len(one["logprobs"]["content"]) == len(one["token_ids"]) <= 12


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": [{"role": "user", "content": "it " * 3000}]}, "2048 is the most"),
        ({"messages": HI, "stop": ["x"]}, "stop is not done"),
        ({"messages": HI, "n": 0}, ">= 1"),
        ({"messages": [{"role": "robot"}]}, "robot"),
    ],
)
def test_what_it_cannot_do_is_refused(base: str, body: dict[str, Any], message: str) -> None:
    answer = httpx.post(f"{base}/chat/completions", json=body)

    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_without_a_champion(desk: Home, live: Live) -> None:
    base = live(desk, Config(champion=True)) + "/w/desk/v1"

    answer = httpx.post(f"{base}/chat/completions", json={"messages": HI})

    assert answer.status_code == 503
    assert "there is no champion yet" in answer.json()["error"]["message"]
    assert httpx.get(f"{base}/models").json() == {"object": "list", "data": []}
    assert httpx.post(f"{base}/embeddings", json={}).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_fails_in_the_middle(desk: Home, base: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any, **__: Any) -> Any:
        yield [(0, 5, -0.5)]
        raise MemoryError

    monkeypatch.setattr("flywheel.rollout.transformers_actor.TransformersActor.write", write)
    body = {"messages": HI, "stream": stream}

    if stream:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{base}/chat/completions", json=body, timeout=30)
    else:
        assert httpx.post(f"{base}/chat/completions", json=body, timeout=30).status_code == 503

    (exchange,) = exchanges(desk)
    assert exchange.state == ("partial" if stream else "failed")
    assert exchange.error.endswith("the champion broke off: MemoryError")


def test_words_calls_and_thoughts_are_told_as_they_are_written() -> None:
    text = '  Looking   it up. <tool_call>\n{"name": "look", "arguments": {"box": "b1"}}\n</tool_call>'

    class Actor:
        context = None

        def prompt(self, steps: Any, tools: Any) -> list[int]:
            return [1, 2]

        def write(self, prompt: list[int], **_: Any) -> Any:
            for number in range(len(text)):
                yield [(0, number, -0.5)]
            yield [(0, 9999, -0.1)]

        def ended(self, token: int) -> bool:
            return token == 9999

        def text(self, tokens: list[int]) -> str:
            return "".join(text[token] for token in tokens if token != 9999)

    answer = Completion("p", Actor(), Asked(messages=HI, stream=True), [])  # type: ignore[arg-type]
    chunks = json.loads(json.dumps(list(answer.chunks())))

    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    words = [delta["content"] for delta in deltas if delta.get("content")]
    assert "".join(words) == "Looking   it up."
    assert len(words) > 5
    assert [(c["index"], c["function"]["name"]) for c in deltas[-1]["tool_calls"]] == [(0, "look")]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert [i for c in chunks for i in c["choices"][0].get("token_ids", [])] == [*range(len(text)), 9999]
