"""The champion as an upstream: chat completions of the policy that serves, sampled here with transformers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import msgspec

from flywheel.capture.importers import chat
from flywheel.release import registry
from flywheel.release.history import Event
from flywheel.schema import FlywheelError, Step
from flywheel.server.upstreams import Asking, Headers
from flywheel.settings import Home
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


class Champion:
    """Answers `/chat/completions` and `/models`, one request at a time, as the policy that the registry names then.

    What vLLM adds is always there: `prompt_token_ids`, and `token_ids` beside each choice or delta.
    """

    url = "http://champion"

    def __init__(self, home: Home) -> None:
        self._home = home
        self._alone = asyncio.Lock()
        self._loaded: tuple[Event, TransformersActor] | None = None

    async def ask(self, asking: Asking) -> Reply:
        """Answer a request; what cannot be answered gets an error as OpenAI has it."""
        reply = Reply()
        if asking.path.partition("?")[0] == "/models":
            event = registry.champion(self._home)
            model = {"object": "model", "created": int(event.at.timestamp()), "owned_by": "flywheel"} if event else {}
            return reply.whole({"object": "list", "data": [{"id": event.policy_id, **model}] if event else []})
        if asking.path.partition("?")[0] != "/chat/completions":
            return reply.refused(404, "the champion answers /chat/completions and /models")
        try:
            asked = _asked(asking.body)
            steps = chat.steps(asked.messages)
        except (ValueError, msgspec.MsgspecError) as error:
            return reply.refused(400, str(error))
        reply.writing = asyncio.create_task(self._write(asked, steps, reply))
        try:
            await reply.began.wait()
        except asyncio.CancelledError:
            reply.close()
            raise
        return reply

    async def _write(self, asked: Asked, steps: Sequence[Step], reply: Reply) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._alone:
                if not reply.closed:
                    await asyncio.to_thread(self._answer, asked, steps, reply, loop)
        finally:
            reply.put(b"")

    def _answer(self, asked: Asked, steps: Sequence[Step], reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        from jinja2 import TemplateError

        try:
            event, actor = self._actor()
            answer = _Answer(event.policy_id, actor, asked, steps)
        except FlywheelError as error:
            loop.call_soon_threadsafe(reply.refused, 503, str(error))
            return
        except (ValueError, TypeError, TemplateError) as error:
            loop.call_soon_threadsafe(reply.refused, 400, f"the model cannot read this conversation: {error}")
            return
        if asked.stream:
            loop.call_soon_threadsafe(reply.begin, 200, b"text/event-stream; charset=utf-8")
            for chunk in answer.chunks():
                if reply.closed:
                    return
                loop.call_soon_threadsafe(reply.put, b"data: %s\n\n" % msgspec.json.encode(chunk))
            loop.call_soon_threadsafe(reply.put, b"data: [DONE]\n\n")
            return
        for _ in answer.written():
            if reply.closed:
                return
        loop.call_soon_threadsafe(reply.whole, answer.whole())

    def _actor(self) -> tuple[Event, TransformersActor]:
        """The policy that serves now. Raises FlywheelError where none does, or it is not what was promoted."""
        from flywheel.rollout.transformers_actor import TransformersActor

        event = registry.champion(self._home)
        if event is None:
            raise FlywheelError(
                "there is no champion yet: flywheel turn makes one, or serve another model with --openai"
            )
        if self._loaded is None or self._loaded[0] != event:
            policy = registry.verify(self._home, event)
            self._loaded = event, TransformersActor(policy.model, name=policy.id, version=policy.digest)
        return self._loaded


def _asked(body: bytes) -> Asked:
    given = msgspec.json.decode(body, type=dict[str, Any])
    for name, harmless in REFUSED.items():
        if given.get(name) is not None and given[name] not in harmless:
            raise ValueError(f"{name} is not done by the champion: leave it out")
    return msgspec.convert(given, Asked)


class Reply:
    """An answer on its way, filled from a thread."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.began = asyncio.Event()
        self.closed = False
        self.writing: asyncio.Task[None] | None = None
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def header(self, name: bytes) -> str:
        """A header, or nothing."""
        return next((value.decode() for header, value in self.headers if header == name), "")

    async def piece(self) -> bytes:
        """The next bytes; none at the end."""
        piece = await self._pieces.get()
        if not piece:
            self.put(b"")  # whoever asks again hears the same
        return piece

    def close(self) -> None:
        """Have no more of it: writing ends with the next token."""
        self.closed = True

    def begin(self, status: int, kind: bytes) -> None:
        """Say how the answer begins."""
        self.status, self.headers = status, [(b"content-type", kind)]
        self.began.set()

    def put(self, piece: bytes) -> None:
        """Add bytes; none for the end."""
        self._pieces.put_nowait(piece)
        if not piece and not self.began.is_set():
            self.refused(503, "the champion could not answer")

    def whole(self, body: dict[str, Any], status: int = 200) -> Reply:
        """Answer with an object."""
        self.begin(status, b"application/json")
        self._pieces.put_nowait(msgspec.json.encode(body))
        self._pieces.put_nowait(b"")
        return self

    def refused(self, status: int, message: str) -> Reply:
        """Answer with an error."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        return self.whole({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


class _Answer:
    """One request to the model: what has been written of each choice, and how that is told."""

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
