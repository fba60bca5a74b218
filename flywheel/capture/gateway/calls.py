"""Calls: one request to a model and its answer, listened to as they pass, and the exchange that they make."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from flywheel.capture.gateway import anthropic_messages, interface, openai_chat, openai_responses, sse
from flywheel.capture.gateway.interface import Answered, Asked, Interface
from flywheel.capture.gateway.remembered import Remembered
from flywheel.capture.gateway.unpacked import Unpacked, Unread
from flywheel.capture.journals.exchanges import Exchange
from flywheel.schema import EndState

INTERFACES: dict[str, Interface] = {
    "chat/completions": openai_chat,
    "responses": openai_responses,
    "messages": anthropic_messages,
}
# Makers of models by the names that the GenAI conventions of OpenTelemetry have for them; others go by their host.
PROVIDERS = {
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "azure.com": "azure.ai.openai",
    "googleapis.com": "gcp.gemini",
    "mistral.ai": "mistral_ai",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
    "cohere.com": "cohere",
    "perplexity.ai": "perplexity",
}


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a client said beside a call: the name of its trajectory (empty for none), and what tells of the task."""

    trajectory: str = ""
    about: dict[str, str] = {}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came: its interface and its body, and the base URL that it goes to."""

    api: Interface
    body: bytes
    upstream: str
    named: Named = Named()
    at: datetime


class Call:
    """One call: how the answer begins and each piece of it are fed to it as they pass.

    `bound` is how many bytes of the answer are kept; of a longer one the exchange says so.
    """

    def __init__(self, request: Request, *, bound: int, clock: Callable[[], datetime]) -> None:
        self.id = uuid4().hex
        self.streams = False
        self.request, self._bound, self._clock = request, bound, clock
        self._status = 0
        self._first_at: datetime | None = None
        self._unread = ""
        self._heard = 0
        self._unpacked = Unpacked("", bound)
        self._events, self._stream = sse.Events(bound), request.api.stream()
        self._pieces: list[bytes] = []

    def began(self, status: int, content_type: str, encoding: str) -> None:
        """How the answer begins."""
        self._status = status
        self.streams = status < 400 and content_type.strip().lower().startswith("text/event-stream")
        self._unpacked = Unpacked(encoding, self._bound)

    def feed(self, piece: bytes) -> int | None:
        """Listen to a piece; where the event begins in it that ends a stream, None where none does."""
        self._first_at = self._first_at or self._clock()
        self._heard += len(piece)
        if self._unread:
            return None
        try:
            plain = self._unpacked.feed(piece)
        except Unread as error:
            self._unread = f"the answer is {error}: not all of it was kept"
            return None
        if not self.streams:
            self._pieces.append(plain)
            return None
        for event in self._events.feed(plain):
            if self._stream.take(event):
                return event.at if plain is piece else 0
        return None

    @property
    def size(self) -> int:
        """The bytes of the request, and of the answer so far."""
        return len(self.request.body) + self._heard

    def exchange(self, remembered: Remembered, broken: str = "") -> Exchange | None:
        """The exchange so far; None where it says nothing. `broken` says what broke it off, if anything did."""
        at = self._clock()
        asked, answered = self._asked(remembered), self._answered()
        state, error = self._end(answered, broken)
        if self.request.api is openai_responses and answered.id and state == "completed":
            said = [*asked.messages[asked.instructions :], *(m for answer in answered.answers for m in answer)]
            remembered.add(answered.id, said, self.size)
            remembered.add_items(answered.items)
            if conversation := openai_responses.conversation(asked):
                remembered.add(conversation, said, self.size)
        if not asked.messages and not answered.answers:
            return None
        named = self.request.named
        host = urlsplit(self.request.upstream).hostname or ""
        return Exchange(
            id=self.id,
            thread=named.trajectory or self.id,
            named=bool(named.trajectory),
            messages=asked.messages,
            answers=answered.answers,
            details=[details | self._took(at) for details in answered.details],
            tools=asked.tools,
            model=answered.model or asked.model,
            provider=next((name for end, name in PROVIDERS.items() if f".{host}".endswith(f".{end}")), host),
            prompt_tokens=answered.prompt_tokens,
            completion_tokens=answered.completion_tokens,
            started_at=self.request.at,
            ended_at=at,
            state=state,
            error=error,
            about={
                "api": self.request.api.NAME,
                "upstream": host,
                **({"parameters": asked.parameters} if asked.parameters else {}),
                **({"status": self._status} if self._status >= 400 else {}),
                **asked.about,
                **named.about,
            },
        )

    def _end(self, answered: Answered, broken: str) -> tuple[EndState, str]:
        if self._status >= 400 or answered.error:
            return "failed", f"{self._status} {answered.error}" if self._status >= 400 else answered.error
        if not self._status:
            return "failed", broken
        if self.streams and answered.state == "completed" and not self._unread:
            return "completed", ""  # what breaks off after the end of the answer takes nothing from it
        if broken or self._unread:
            return "partial", broken or self._unread
        return answered.state, ""

    def _took(self, at: datetime) -> dict[str, float]:
        took = {"seconds": (at - self.request.at).total_seconds()}
        if self.streams and self._first_at:
            took["first_token_s"] = (self._first_at - self.request.at).total_seconds()
        return took

    def _asked(self, remembered: Remembered) -> Asked:
        body = interface.decoded(self.request.body)
        if not isinstance(body, dict):
            return Asked(messages=[])
        asked = self.request.api.asked(remembered.told(body))
        earlier = remembered.messages(openai_responses.before(asked))
        return asked if earlier is None else openai_responses.after(asked, earlier)

    def _answered(self) -> Answered:
        rest, unread = (b"", "") if self._unread else self._unpacked.rest()
        if unread:
            self._unread = f"the answer is {unread}: not all of it was kept"
        if self.streams:
            for event in [*self._events.feed(rest), *([] if self._unread else self._events.last())]:
                self._stream.take(event)
            return self._stream.answered()
        whole = b"".join([*self._pieces, rest])
        body = interface.decoded(whole)
        if self._status >= 400:
            return Answered(error=interface.failure(body if body is not None else whole.decode("utf-8", "replace")))
        if isinstance(body, dict):
            return self.request.api.answered(body)
        self._unread = self._unread or f"the answer is no JSON object: {whole[:200].decode('utf-8', 'replace')}"
        return Answered(state="partial")
