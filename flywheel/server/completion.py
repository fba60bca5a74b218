"""A chat completion of a policy: what was asked, what is written token by token, and how that is told."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import msgspec

from flywheel.schema import Step
from flywheel.views.messages import parse_assistant

if TYPE_CHECKING:
    from flywheel.rollout.transformers_actor import TransformersActor

# What would change the answer and is not done here, with the values that change nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "stop": ([],),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is wanted."""

    include_usage: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for chat completions, as far as it is done here. Without a seed one is drawn."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    stream_options: Options | None = None


def asked(body: bytes) -> Asked:
    """A request. Raises ValueError for one that is none, or asks for what is not done here."""
    given = msgspec.json.decode(body, type=dict[str, Any])
    for name, harmless in REFUSED.items():
        if given.get(name) is not None and given[name] not in harmless:
            raise ValueError(f"{name} is not done by the champion: leave it out")
    return msgspec.convert(given, Asked)


class Completion:
    """One request to a model. Raises ValueError for a conversation that the model cannot read."""

    def __init__(self, policy: str, actor: TransformersActor, asked: Asked, steps: Sequence[Step]) -> None:
        self._actor, self._asked, self._n = actor, asked, asked.n or 1
        self._prompt = actor.prompt(steps, asked.tools)
        room = None if actor.context is None else actor.context - len(self._prompt)
        wanted = asked.max_completion_tokens or asked.max_tokens
        if room is not None and room < 1:
            raise ValueError(f"it has {len(self._prompt)} tokens, and {actor.context} is the most with the answer")
        self._most = min(wanted or room or 512, room or wanted or 512)
        self._ids: list[list[int]] = [[] for _ in range(self._n)]
        self._logprobs: list[list[float]] = [[] for _ in range(self._n)]
        self._base = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": policy}

    def written(self) -> Iterator[list[int]]:
        """Write, position by position; gives the choices that got a token."""
        temperature = 1.0 if self._asked.temperature is None else self._asked.temperature
        seed = secrets.randbits(32) if self._asked.seed is None else self._asked.seed % 2**63
        tokens = self._actor.write(self._prompt, n=self._n, temperature=temperature, seed=seed, max_tokens=self._most)
        for found in tokens:
            for row, token, logprob in found:
                self._ids[row].append(token)
                self._logprobs[row].append(logprob)
            yield [row for row, _, _ in found]

    def whole(self) -> dict[str, Any]:
        """The completion."""
        choices = []
        for row, ids in enumerate(self._ids):
            message, finish = self._said(row)
            choice = {"index": row, "message": {"content": None, **message}, "finish_reason": finish}
            choices.append(choice | {"logprobs": self._told(row, 0), "token_ids": ids})
        whole = {**self._base, "object": "chat.completion", "choices": choices, "usage": self._usage()}
        return whole | {"prompt_token_ids": self._prompt}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The completion in chunks: words as they are written, thoughts and calls when they are whole."""
        base = {**self._base, "object": "chat.completion.chunk"}
        sent = [""] * self._n
        for row in range(self._n):
            choice = {"index": row, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            yield base | {"choices": [choice], **({} if row else {"prompt_token_ids": self._prompt})}
        for rows in self.written():
            for row in rows:
                # What may be the beginning of a tag waits, and so does space that may be the last.
                plain = self._actor.text(self._ids[row]).lstrip().partition("<")[0].rstrip().rstrip("\ufffd")
                more = plain[len(sent[row]) :] if plain.startswith(sent[row]) else ""
                sent[row] += more
                delta = {"content": more} if more else {}
                choice = {"index": row, "delta": delta, "finish_reason": None, "token_ids": self._ids[row][-1:]}
                yield base | {"choices": [choice | {"logprobs": self._told(row, -1)}]}
        for row in range(self._n):
            message, finish = self._said(row)
            content = message.pop("content", None) or ""
            rest = content.removeprefix(sent[row])
            calls = [call | {"index": number} for number, call in enumerate(message.pop("tool_calls", ()))]
            delta = message | ({"content": rest} if rest else {}) | ({"tool_calls": calls} if calls else {})
            yield base | {"choices": [{"index": row, "delta": delta, "finish_reason": finish}]}
        if self._asked.stream_options and self._asked.stream_options.include_usage:
            yield base | {"choices": [], "usage": self._usage()}

    def _said(self, row: int) -> tuple[dict[str, Any], str]:
        """The message of a choice, and why it ended."""
        ids = self._ids[row]
        step = parse_assistant(self._actor.text(ids))
        message: dict[str, Any] = {"role": "assistant"}
        if step.content:
            message["content"] = step.content
        if step.reasoning:
            message["reasoning_content"] = step.reasoning
        if step.tool_calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{uuid4().hex[:24]}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in step.tool_calls
            ]
        ended = bool(ids) and self._actor.ended(ids[-1])
        return message, ("tool_calls" if step.tool_calls else "stop") if ended else "length"

    def _told(self, row: int, since: int) -> dict[str, Any] | None:
        """The log-probabilities of tokens, where they were asked for."""
        if not self._asked.logprobs:
            return None
        tokens = zip(self._ids[row][since:], self._logprobs[row][since:], strict=True)
        told = [(self._actor.token(token), logprob) for token, logprob in tokens]
        return {
            "content": [
                {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
                for text, logprob in told
            ]
        }

    def _usage(self) -> dict[str, int]:
        prompt, written = len(self._prompt), sum(map(len, self._ids))
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
