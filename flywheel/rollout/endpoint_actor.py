"""An actor that asks a model behind OpenAI's chat completions: a hosted one, vLLM, Ollama, or `flywheel serve`."""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flywheel import environments
from flywheel.capture import posting
from flywheel.environments.protocol import Act, Situation
from flywheel.schema import FlywheelError, Step, ToolCall, canonical_json

TRIES = 6
LONGEST = 60.0  # seconds between two tries
RETRIED = posting.RETRIED | {409}  # OpenAI's own clients try a conflict again, too

# Fields of an answer that say how it was made.
KEPT = ("id", "model", "system_fingerprint")


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None


class EndpointActor:
    """A model that is asked over HTTP: `url` is the base URL with its `/v1`; any number of threads may ask.

    `tools` are the schemas that are offered, by environment; those of the environments that ship are known. What a
    busy server turns down is asked again, `TRIES` times in all, when it says or with growing pauses.
    """

    def __init__(
        self,
        model: str,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 300.0,
        tools: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FlywheelError(f"{url!r} is no base URL; write it as http://127.0.0.1:8000/v1")
        self.name, self.version = model, ""
        self.provider = parts.hostname
        self._url, self._key, self._timeout = f"{url.rstrip('/')}/chat/completions", key, timeout
        shipped = {name: environments.get(name).tools for name in environments.names()}
        self._tools = {name: list(schemas) for name, schemas in {**shipped, **(tools or {})}.items()}

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        """`n` steps for each situation, one request each.

        Raises:
            FlywheelError: when the server refuses, cannot be reached, or answers in another manner.
        """
        return [[self._asked(situation, temperature, seed + 7919 * i) for i in range(n)] for situation in situations]

    def _asked(self, situation: Situation, temperature: float, seed: int) -> Act:
        asked: dict[str, Any] = {
            "model": self.name,
            "messages": [_message(step) for step in situation.steps if step.role != "system" or step.content],
            "temperature": temperature,
            "seed": seed % 2**31,
        }
        if tools := self._tools.get(situation.task.environment):
            asked["tools"] = tools
        answer = self._post(msgspec.json.encode(asked))
        if not answer.choices:
            raise FlywheelError(f"{self._url} answered without a choice")
        choice, usage = answer.choices[0], answer.usage or _Usage()
        said = {name: value for name in KEPT if (value := getattr(answer, name)) is not None}
        metadata = {**said, **({"finish_reason": choice.finish_reason} if choice.finish_reason else {})}
        message = choice.message
        step = Step(
            role="assistant",
            content=message.content or None,
            reasoning=message.reasoning_content or message.reasoning or None,
            tool_calls=tuple(_called(i, call) for i, call in enumerate(message.tool_calls or [])),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            metadata=canonical_json(metadata),
        )
        return Act(step=step, tokens=usage.completion_tokens or 0)

    def _post(self, body: bytes) -> _Answer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310  # checked above
        for tried in range(1, TRIES + 1):
            pause = random.uniform(0.5, 1.0) * min(LONGEST, 2.0**tried)
            try:
                with posting.answered(request, self._timeout) as answer:
                    return msgspec.json.decode(answer.read(), type=_Answer)
            except urllib.error.HTTPError as error:
                with error:
                    said = f"{self._url} answered {error.code}: {posting.said(error)}"
                if error.code not in RETRIED or tried == TRIES:
                    raise FlywheelError(said) from None
                wait = posting.retry_after(error.headers)
                pause = pause if wait is None else min(LONGEST, wait)
            except (OSError, http.client.HTTPException) as error:
                if tried == TRIES:
                    raise FlywheelError(f"{self._url} cannot be reached: {error}") from error
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FlywheelError(f"{self._url} does not answer as chat completions do: {error}") from error
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")


def _message(step: Step) -> dict[str, Any]:
    message: dict[str, Any] = {"role": step.role, "content": step.content or ""}
    if step.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in step.tool_calls
        ]
    if step.role == "tool":
        message["tool_call_id"] = step.tool_call_id or ""
    return message


def _called(number: int, call: _Call) -> ToolCall:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else canonical_json(arguments or {})
    return ToolCall(id=call.id or f"call_{number}", name=call.function.name, arguments=text)
