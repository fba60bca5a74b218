"""Recorded calls of models: requests and responses of OpenAI chat, OpenAI Responses and Anthropic messages, as sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flywheel.capture.gateway import anthropic_messages, openai_chat, openai_responses, sse
from flywheel.capture.gateway.interface import Answered, Interface
from flywheel.capture.gateway.remembered import Remembered
from flywheel.capture.importers import conversations, documents, halves
from flywheel.capture.importers.conversations import EPOCH, Call
from flywheel.capture.importers.dialects import Message
from flywheel.capture.importers.documents import Aside, Piece
from flywheel.capture.importers.records import EXCERPT, Bad, Origin, Record
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError

NAME = "api-calls"
MARKS = (re.compile(rb'(?<!\\)"request"\s*:\s*\{'), re.compile(rb'(?<!\\)"response"\s*:\s*["{]'))
SAID = re.compile(rb'(?<!\\)"(?:messages|input)"\s*:')
INTERFACES: dict[str, Interface] = {
    "/chat/completions": openai_chat,
    "/responses": openai_responses,
    "/messages": anthropic_messages,
}
REFUSED = (ValueError, OverflowError, RecursionError, FlywheelError)
CALLS = msgspec.json.Decoder(Call)


class Recorded(msgspec.Struct):
    """One call. A response is an object, or the text of a stream; without a `uri` its interface is told by its form."""

    request: dict[str, Any]
    response: dict[str, Any] | str | None = None
    uri: str = ""
    url: str = ""


class Seen(msgspec.Struct, frozen=True):
    """A call that was set by: where it lies, where it stood, and the digest of its record."""

    place: tuple[int, int]
    piece: Piece
    digest: str


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds calls."""
    return all(mark.search(head) for mark in (*MARKS, SAID))


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The conversations of a file's calls: those that go on from one another, wherever they stand, are one."""
    yield from read_calls(path, workspace, arrived_at, lambda raw: msgspec.convert(raw, Recorded), NAME)


def read_calls(
    path: Path, workspace: str, arrived_at: datetime, recorded: Callable[[Any], Recorded], format: str
) -> Iterator[Record | Bad]:
    """As `read`, of records that `recorded` makes calls of. Memory holds a digest of each message, and one call."""
    remembered = Remembered()
    said: list[tuple[Seen, list[bytes]]] = []
    with documents.opened(path) as data, Aside() as aside:
        for index, piece in enumerate(documents.records(data)):
            try:
                if piece.cut:
                    raise ValueError("the file breaks off or goes on where a record should end")
                raw = halves.decoded(piece.data)
                digest = hashlib.sha256(msgspec.json.encode(raw, order="sorted")).hexdigest()
                for call in calls(recorded(raw), digest, remembered):
                    seen = Seen(aside.put(msgspec.json.encode(call)), piece, digest)
                    said.append((seen, conversations.digests(call.messages + call.answer)))
            except REFUSED as error:
                excerpt = piece.data[:EXCERPT].decode("utf-8", "replace")
                yield Bad(piece.line, f"record {index + 1}: {error}", excerpt, piece.end)
        for index, line in enumerate(conversations.lines(said)):
            first = line[0]
            origin = Origin(
                format=format,
                workspace=workspace,
                arrived_at=arrived_at,
                path=path,
                line=first.piece.line,
                index=index,
                digest=first.digest,
            )
            try:
                yield _made((CALLS.decode(aside.get(seen.place)) for seen in line), origin, len(data))
            except REFUSED as error:
                excerpt = first.piece.data[:EXCERPT].decode("utf-8", "replace")
                yield Bad(first.piece.line, f"conversation {index}: {error}", excerpt, len(data))


def calls(recorded: Recorded, name: str, remembered: Remembered) -> list[Call]:
    """The call of a record, one for each answer; `remembered` has what it may go on from by a response's id.

    Raises ValueError where it is no call of a model, or a message of it cannot be read.
    """
    uri = recorded.uri or recorded.url
    interface = _interface(uri, recorded)
    asked, answered = interface.asked(remembered.told(recorded.request)), _answered(interface, recorded.response)
    before = remembered.messages(str(asked.about.get("previous_response_id")))
    if before is not None:
        asked = openai_responses.after(asked, before)
    answers = answered.answers or [[]]
    _checked([*asked.messages, *(message for answer in answers for message in answer)])
    if not asked.messages and not answered.answers:
        raise ValueError("nothing is said in it")
    if answered.id and interface is openai_responses:
        history = asked.messages[asked.instructions :] + answers[0]
        remembered.add_items(answered.items)
        remembered.add(answered.id, history, len(msgspec.json.encode(asked.messages[-1:] + answers[0])))
    return [
        Call(
            id=f"{answered.id or name}#{number}" if number else answered.id or name,
            messages=asked.messages,
            answer=answer,
            tools=asked.tools,
            model=answered.model or asked.model,
            provider=_provider(interface, uri),
            prompt_tokens=answered.prompt_tokens,
            completion_tokens=answered.completion_tokens,
            started_at=_created(recorded.response),
            failed=answered.state == "failed",
            error=answered.error,
            details=answered.details[number] if number < len(answered.details) else {},
        )
        for number, answer in enumerate(answers)
    ]


def _interface(uri: str, recorded: Recorded) -> Interface:
    path = urlsplit(uri).path.rstrip("/")
    for end, interface in INTERFACES.items():
        if path.endswith(end):
            return interface
    if path:
        raise ValueError(f"{path} is no call of a model that is read here")
    if "input" in recorded.request:
        return openai_responses
    if "messages" not in recorded.request:
        raise ValueError("it is no call of a model: the request has neither messages nor an input")
    response = recorded.response
    other = isinstance(response, dict) and response.get("type") == "message"
    other = other or (isinstance(response, str) and "message_start" in response[:400])
    return anthropic_messages if other else openai_chat


def _answered(interface: Interface, response: dict[str, Any] | str | None) -> Answered:
    if response is None:
        return Answered(state="partial")
    if isinstance(response, dict):
        return interface.answered(response)
    data = response.encode("utf-8", "replace")
    events = sse.Events(len(data))
    stream = interface.stream()
    for event in (*events.feed(data), *events.last()):
        stream.take(event)
    return stream.answered()


def _checked(messages: Iterable[Message]) -> None:
    for message in messages:
        if message.get("malformed"):
            raise ValueError(f"a message of it cannot be read: {str(message.get('content'))[:80]}")


def _provider(interface: Interface, uri: str) -> str:
    host = urlsplit(uri).hostname or ("anthropic" if interface is anthropic_messages else "")
    return next((name for name in ("openai", "anthropic") if name in host), host)


def _created(response: dict[str, Any] | str | None) -> datetime | None:
    """When a response was made, in seconds since 1970, as OpenAI tells it."""
    said = response if isinstance(response, dict) else {}
    at = said.get("created_at", said.get("created"))
    return EPOCH + timedelta(seconds=at) if isinstance(at, int | float) and not isinstance(at, bool) else None


def _made(line: Iterable[Call], origin: Origin, end: int) -> Record:
    held = list(line)
    made = conversations.conversation(held, [])
    trajectory = origin.trajectory(
        metadata={"calls": sorted(call.id for call in held), "error": made.last.error or None},
        **made.fields(),
    )
    return Record(checked(trajectory), (), end)
