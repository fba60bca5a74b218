"""Exchanges without secrets and without what of a prompt is not kept, numbered on as their conversation goes."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import msgspec

from flywheel.capture.importers.dialects import Message
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.redaction import boundary, redact
from flywheel.capture.redaction.redact import PROMPT_TOKENS, TOKENS, Redactor
from flywheel.settings import Home

LONGEST_ERROR = 2000  # characters
SOURCE = "gateway"


class State(msgspec.Struct, frozen=True):
    """Where redaction stands at a point of a conversation: its placeholders, and whether there are any so far."""

    redactor: Redactor
    masked: bool = False
    size: int = 0  # bytes, about


def begin(home: Home, workspace: str) -> State:
    """Where a conversation begins."""
    return State(redact.redactor(home, workspace))


def redacted(home: Home, workspace: str, exchange: Exchange, at: int, state: State) -> tuple[Exchange, list[State]]:
    """An exchange that goes on from a point of a conversation after `at` messages, and the state at each answer.

    Of its messages those that follow are told. Placeholders are numbered as the conversation goes: the other
    answers, and what is beside the messages, see those before them and leave none behind.
    """
    counts: Counter[str] = Counter()
    cut = boundary.of(home, workspace, SOURCE)
    offered = cut.tools(exchange.tools)
    left_out = cut.about()  # of the messages it is counted when they are settled
    new = cut.messages(exchange.messages, at)
    if new != exchange.messages[at:]:
        state = msgspec.structs.replace(state, masked=True)
    messages, state = _clean(new, state, counts)
    asked = len(exchange.messages)
    said = [cut.messages([*exchange.messages, *answer], asked) for answer in exchange.answers]
    found = [_clean(answer, state, counts) for answer in said]
    beside = _fork(found[0][1] if found else state)
    tools = _value(beside, offered)
    masked = state.masked or tools != exchange.tools
    if exchange.state == "partial":
        found = [(_unfinished(answer), after) for answer, after in found]
    details = []
    for detail, answer, (clean, _) in zip(exchange.details, exchange.answers, found, strict=False):
        gone = (TOKENS if clean != answer else ()) + (PROMPT_TOKENS if masked else ())
        details.append(_details(beside, detail, [key for key in gone if key in detail]))
    about = _value(beside, exchange.about) | ({"boundary": left_out} if left_out else {})
    error = beside.excerpt(exchange.error[:LONGEST_ERROR], LONGEST_ERROR)
    if counts := counts + beside.counts:
        about["redactions"] = dict(sorted(counts.items()))
    clean = msgspec.structs.replace(
        exchange,
        thread=beside.identifier(exchange.thread) if exchange.named else exchange.thread,
        messages=messages,
        answers=[answer for answer, _ in found],
        details=details,
        tools=tools,
        model=beside.identifier(exchange.model),
        provider=beside.identifier(exchange.provider),
        error=error,
        about=about,
    )
    return clean, [state for _, state in found]


def _clean(messages: list[Message], state: State, counts: Counter[str]) -> tuple[list[Message], State]:
    """Messages redacted, and where redaction stands after them; the state that was given stays as it is."""
    if not messages:
        return [], state
    redactor = _fork(state)
    found = [_message(redactor, message) for message in messages]
    counts += redactor.counts
    size = _size(redactor)
    if size == state.size:  # nothing to remember that was not known: one redactor for many ends
        redactor = state.redactor
    return found, State(redactor, state.masked or found != messages, size)


def _unfinished(answer: list[Message]) -> list[Message]:
    """A redacted answer that broke off, without what was cut apart in what it said last."""
    if not answer:
        return answer
    last = copy.deepcopy(answer[-1])
    calls = [call.get("function") for call in last.get("tool_calls") or () if isinstance(call, dict)]
    functions = [function for function in calls if isinstance(function, dict)]
    said: list[tuple[dict[str, Any], str]] = [(function, "arguments") for function in functions]
    said = said or [(last, key) for key in ("content", "reasoning_content", "reasoning") if last.get(key)][:1]
    for holder, key in said:
        if isinstance(holder.get(key), str):
            holder[key] = redact.unfinished(holder[key])
    return [*answer[:-1], last]


def _message(redactor: Redactor, message: Message) -> Message:
    """A message redacted: first what clients repeat faithfully, so that all who read it number alike."""
    first = [key for key in ("content", "tool_calls", "function_call") if key in message]
    order = [*first, *sorted(message.keys() - {*first, "role"})]
    clean = {key: _part(redactor, key, message[key]) for key in order}
    return {key: clean.get(key, message[key]) for key in message}


def _part(redactor: Redactor, key: str, value: Any) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if key == "tool_calls" and isinstance(value, list):
        return [_part(redactor, "tool_call", call) for call in value]
    if key in ("tool_call", "function_call", "function") and isinstance(value, dict):
        return {name: _part(redactor, name, inner) for name, inner in value.items()}
    return _value(redactor, value)


def _value(redactor: Redactor, value: Any) -> Any:
    """A JSON value redacted."""
    if not value or isinstance(value, bool | int | float):
        return value
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # lone surrogates, which the redactor makes storable
        text = json.dumps(value, ensure_ascii=False)
    return msgspec.json.decode(redactor.json(text))


def _details(redactor: Redactor, details: dict[str, Any], gone: list[str]) -> dict[str, Any]:
    """What is known of an answer, without the tokens that spell out what was redacted; other tokens as they are."""
    told = {key: value for key, value in details.items() if key in TOKENS + PROMPT_TOKENS and key not in gone}
    rest = {key: value for key, value in details.items() if key not in TOKENS + PROMPT_TOKENS}
    return _value(redactor, rest) | told | ({"withheld": gone} if gone else {})


def _fork(state: State) -> Redactor:
    """A redactor that goes on from where another stands, and leaves it there."""
    fork = copy.copy(state.redactor)
    for name, value in vars(fork).items():
        if isinstance(value, dict | set | list):
            setattr(fork, name, copy.copy(value))
    fork.counts = Counter()
    return fork


def _size(redactor: Redactor) -> int:
    """About how many bytes the placeholders of a redactor take."""
    return sum(200 * len(v) for name, v in vars(redactor).items() if isinstance(v, dict) and name != "counts")
