"""The champion as an upstream: chat completions of the policy that serves, sampled here with transformers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.capture.importers import chat
from flywheel.release import registry
from flywheel.release.history import Event
from flywheel.schema import FlywheelError, Step
from flywheel.server import completion
from flywheel.server.completion import Asked, Completion
from flywheel.server.outermost import told
from flywheel.server.upstreams import Asking, Away, Headers
from flywheel.settings import Home

if TYPE_CHECKING:
    from flywheel.rollout.transformers_actor import TransformersActor

log = logging.getLogger("flywheel.server")


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
            asked = completion.asked(asking.body)
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
        except Exception as error:
            reply.broken = f"the champion broke off: {type(error).__name__}"
            log.error("the champion broke off: %s", told(error))
        finally:
            reply.put(b"")

    def _answer(self, asked: Asked, steps: Sequence[Step], reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        from jinja2 import TemplateError

        try:
            event, actor = self._actor()
            answer = Completion(event.policy_id, actor, asked, steps)
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
                "there is no champion yet: `flywheel demo` makes one, or serve another model with --openai"
            )
        if self._loaded is None or self._loaded[0] != event:
            policy = registry.verify(self._home, event)
            self._loaded = event, TransformersActor(policy.model, name=policy.id, version=policy.digest)
        return self._loaded


class Reply:
    """An answer on its way, filled from a thread."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.began = asyncio.Event()
        self.closed = False
        self.broken = ""
        self.writing: asyncio.Task[None] | None = None
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def header(self, name: bytes) -> str:
        """A header, or nothing."""
        return next((value.decode() for header, value in self.headers if header == name), "")

    async def piece(self) -> bytes:
        """The next bytes; none at the end. Raises Away where it broke off."""
        piece = await self._pieces.get()
        if not piece:
            self._pieces.put_nowait(b"")  # whoever asks again hears the same
            if self.broken and self.status < 400:
                raise Away(self.broken)
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
        if not piece and not self.began.is_set():
            self.refused(503, self.broken or "nobody waited for the champion's answer")
            return
        self._pieces.put_nowait(piece)

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
