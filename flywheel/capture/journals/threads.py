"""Threads: exchanges that go on from one another, each written without what the journal holds of it already."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from typing import Any

import msgspec

from flywheel.capture.importers.conversations import digests
from flywheel.capture.importers.dialects import Message
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.journal import Exchanged
from flywheel.capture.journals.writer import Moved, Writer
from flywheel.capture.redaction import boundary, redact
from flywheel.capture.redaction.redact import PROMPT_TOKENS, TOKENS, Redactor
from flywheel.schema import canonical_json
from flywheel.settings import Home

# How many ends of conversations are kept in memory, and how much of what was redacted in them, in bytes.
TIPS = 50_000
KEPT = 64 * 2**20
LONGEST_ERROR = 2000  # characters
SOURCE = "gateway"


class State(msgspec.Struct, frozen=True):
    """Where redaction stands at a point of a conversation: its placeholders, and whether there are any so far."""

    redactor: Redactor
    masked: bool = False
    size: int = 0  # bytes, about


class Tip(msgspec.Struct, frozen=True):
    """The end of a conversation: an exchange, which of its answers, and what is known there."""

    exchange: str
    choice: int
    thread: str
    state: State


class Threads:
    """Writes the exchanges of a workspace, each as what follows the exchange that it goes on from, redacted, and
    without what of a prompt is not kept.

    Known by a digest of all messages are the ends of the conversations in the writer's journal, in memory alone. What
    extends one is written as what is new in it; what extends none (a rewritten history, a fork before an end, one
    from before a restart) is written whole. Any thread or task may call.
    """

    def __init__(self, home: Home, workspace: str, writer: Writer) -> None:
        self._home, self._workspace, self._writer = home, workspace, writer
        self._lock = threading.Lock()
        self._file = ""
        self._tips: OrderedDict[bytes, Tip] = OrderedDict()
        self._size = 0

    def put(self, exchange: Exchange) -> Future[Exchange]:
        """Have an exchange written, given as it was: all messages, nothing redacted, `after` None.

        `thread` counts where it is `named`, else the exchange gets the thread of what it goes on from, or its own
        id. The future gives what was written once it is on disk, or raises `journal.Full`.

        Raises:
            FlywheelError: when it cannot be written as JSON, or the writer is closed.
        """
        seed = canonical_json([exchange.thread]).encode() if exchange.named else b""
        chain = digests(exchange.messages, seed)
        ends = [digests(answer, chain[-1] if chain else seed)[-1:] for answer in exchange.answers]
        file, at, tip = self._found(chain)
        clean, states = self._redacted(exchange, at, tip)
        try:
            written = self._writer.put([Exchanged(clean)], into=file if tip else None)
        except Moved:
            clean, states = self._redacted(exchange, 0, None)
            written = self._writer.put([Exchanged(clean)])
        future: Future[Exchange] = Future()
        future.set_running_or_notify_cancel()

        def acknowledged(done: Future[str]) -> None:
            if error := done.exception():
                future.set_exception(error)
                return
            self._remember(done.result(), clean, ends, states)
            future.set_result(clean)

        written.add_done_callback(acknowledged)
        return future

    async def add(self, exchange: Exchange) -> Exchange:
        """As `put`, for a task: returns what was written when it is on disk."""
        return await asyncio.wrap_future(self.put(exchange))

    def _found(self, chain: list[bytes]) -> tuple[str, int, Tip | None]:
        """The journal, how many of the messages an end in it has, and the end."""
        with self._lock:
            self._follow(self._writer.file)
            for at in range(len(chain), 0, -1):
                if tip := self._tips.get(chain[at - 1]):
                    self._tips.move_to_end(chain[at - 1])
                    return self._file, at, tip
        return self._file, 0, None

    def _remember(self, file: str, clean: Exchange, ends: list[list[bytes]], states: list[State]) -> None:
        with self._lock:
            if file != self._writer.file:
                return
            self._follow(file)
            for choice, (end, state) in enumerate(zip(ends, states, strict=True)):
                for digest in end:
                    self._forget(digest)
                    self._tips[digest] = Tip(clean.id, choice, clean.thread, state)
                    self._size += state.size
            while len(self._tips) > TIPS or self._size > KEPT:
                self._forget(next(iter(self._tips)))

    def _follow(self, file: str) -> None:
        """Know nothing of another journal than the one that is written."""
        if self._file != file:
            self._file, self._size = file, 0
            self._tips.clear()

    def _forget(self, digest: bytes) -> None:
        if tip := self._tips.pop(digest, None):
            self._size -= tip.state.size

    def _redacted(self, exchange: Exchange, at: int, tip: Tip | None) -> tuple[Exchange, list[State]]:
        """What is to be written of an exchange that goes on from `tip` after `at` messages; the state at each answer.

        Placeholders are numbered as the conversation goes: the other answers, and what is beside the messages, see
        those before them and leave none behind.
        """
        state = tip.state if tip else State(redact.redactor(self._home, self._workspace))
        counts: Counter[str] = Counter()
        cut = boundary.of(self._home, self._workspace, SOURCE)
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
            thread=beside.identifier(exchange.thread) if exchange.named else tip.thread if tip else exchange.id,
            after=tip.exchange if tip else None,
            choice=tip.choice if tip else 0,
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
