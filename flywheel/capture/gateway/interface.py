"""What the interfaces of models have in common: what was asked, what was answered, and a stream of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import chat, halves
from flywheel.capture.importers.dialects import Message
from flywheel.schema import EndState


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request: chat messages, tools in the style of OpenAI, and what else it asked for, by its own names.

    The first `instructions` of the messages hold for this request alone, where a later one may go on from it by an id.
    """

    messages: list[Message]
    instructions: int = 0
    tools: list[dict[str, Any]] = []
    model: str = ""
    parameters: dict[str, Any] = {}
    about: dict[str, Any] = {}


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: the messages of each choice, and beside them what else is known of it.

    `usage` counts what the whole request took, in tokens. `state` is partial where the answer has not come to its
    end, failed where the upstream said so in `error`. `items` are its parts by the ids by which later requests may
    refer to them.
    """

    answers: list[list[Message]] = []
    details: list[dict[str, Any]] = []
    id: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    state: EndState = "completed"
    error: str = ""
    items: dict[str, dict[str, Any]] = {}


class Stream(Protocol):
    """An answer that comes in events."""

    def take(self, event: Event) -> bool:
        """Take in an event; whether it is the one that ends the answer."""
        ...

    def answered(self) -> Answered:
        """What has come so far."""
        ...


class Interface(Protocol):
    """One interface of models: a module with these functions."""

    NAME: str

    def asked(self, body: dict[str, Any]) -> Asked:
        """What a request asks. Never raises for what a client may write."""
        ...

    def answered(self, body: dict[str, Any]) -> Answered:
        """What a whole answer says."""
        ...

    def stream(self) -> Stream:
        """An answer that will come in events."""
        ...


def partial(said: Answered) -> Answered:
    """An answer that did not come to its end."""
    return msgspec.structs.replace(said, state="partial")


def decoded(data: bytes) -> Any:
    """JSON as objects that can be stored; None where it is none."""
    return halves.joined(piece(data))


def piece(data: bytes) -> Any:
    """JSON as objects; None where it is none. What is not quite JSON, and sent all the same, is read as its readers do.

    NaN is null, bytes that are no UTF-8 are question marks. Half a character (a surrogate, as programs write it that
    cut text in UTF-16) stays one: the other half may come with the next piece of a stream.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def readable(messages: Any) -> list[Message]:
    """Chat messages such that `chat.steps` can read each: what is none stays as its text, in what a user says or the
    system, where it names that."""
    if not isinstance(messages, list):
        return [] if messages is None else [_as_text(messages)]
    return [message if _is_message(message) else _as_text(message) for message in messages]


def _is_message(message: Any) -> bool:
    try:
        msgspec.convert(message, chat.Message)
    except (msgspec.ValidationError, RecursionError):
        return False
    return isinstance(message, dict)


def _as_text(message: Any) -> Message:
    # A prompt that is not kept is none in any form.
    role = str(message.get("role")).lower() if isinstance(message, dict) else ""
    role = "system" if role in ("system", "developer") else "user"
    return {"role": role, "content": msgspec.json.encode(message).decode(), "malformed": True}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none where it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def within(body: dict[str, Any], key: str) -> dict[str, Any]:
    """The object that an object holds under a name; an empty one where it holds none."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    """A text, or nothing."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int | None:
    """A number of tokens, where it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def joined(parts: Sequence[Any], texts: frozenset[str] = frozenset({"text", "input_text", "output_text"})) -> Any:
    """Parts as a text where they are all text, else as they are, with `text` for each kind of text.

    Marks of caches are left out: clients move them from turn to turn, and they are no part of what was said.
    """
    plain = [_part(part, texts) for part in parts]
    if all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in plain):
        return "\n".join(part["text"] for part in plain) if plain else None
    return plain


def _part(part: Any, texts: frozenset[str]) -> dict[str, Any]:
    if not isinstance(part, dict):
        return {"type": "text", "text": part if isinstance(part, str) else msgspec.json.encode(part).decode()}
    kept = {k: v for k, v in part.items() if k != "cache_control"} if "cache_control" in part else part
    return {**kept, "type": "text"} if text(kept.get("type")) in texts else kept


def failure(body: Any) -> str:
    """What an error of an upstream says, whatever its shape."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        kind = error.get("type") or error.get("code") or ""
        message = error.get("message") or error.get("detail") or msgspec.json.encode(error).decode()
        return f"{kind}: {message}" if kind else str(message)
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()


def kept(body: dict[str, Any], *known: str) -> dict[str, Any]:
    """What an object holds beside what has a place of its own."""
    return {k: v for k, v in body.items() if k not in known and v is not None}
