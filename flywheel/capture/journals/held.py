"""Held: exchanges and spans in journals as far as joining must know them; what they say is read when it is needed.

A server settles its own journals again and again: what it knows of a line is kept in memory, the line is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from flywheel.capture.importers.conversations import digests
from flywheel.capture.importers.spans import EVALUATION
from flywheel.capture.journals.events import DECODER, Event, Exchanged, Spanned
from flywheel.capture.journals.exchanges import Exchange
from flywheel.schema import canonical_json


class Place(msgspec.Struct, frozen=True):
    """Where a line is: its journal, its number (from 1), where its bytes begin and how many they are."""

    path: Path
    line: int
    offset: int
    size: int

    def event(self) -> Event:
        """What stands there."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return DECODER.decode(file.read(self.size))


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange without what was said in it.

    `chain` has a digest of each beginning of the conversation, from the first message that the line holds on;
    `answered` one of all messages and each answer, None where that says nothing. `lost` says that what it goes on from
    is not in its journal.
    """

    place: Place
    id: str
    thread: str
    named: bool
    after: str | None
    choice: int
    started_at: datetime
    ended_at: datetime
    seed: bytes
    chain: tuple[bytes, ...]
    answered: tuple[bytes | None, ...]
    lost: bool

    @property
    def ids(self) -> set[str]:
        """All ids by which it can be erased, as `traces.ids_of` tells them."""
        return {self.thread, self.id, self.after or self.id}


class HeldSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span, or an event that was logged apart from it, without what it tells; `at` is when it came in.

    `evaluation` names the scores that the event gives: several may be logged at one time.
    """

    place: Place
    trace: str
    id: str
    logged_at: datetime | None
    at: datetime
    evaluation: str = ""

    @property
    def ids(self) -> set[str]:
        """The id by which it can be erased."""
        return {self.trace}


class Shelf:
    """What is known of one journal's exchanges and spans, by where their lines begin and what they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[int, int], Held | HeldSpan] = {}
        self._exchanges: dict[str, Held] = {}

    def known(self, offset: int, line: bytes) -> Held | HeldSpan | None:
        """What is known of a line."""
        return self._known.get((offset, hash(line)))

    def add(self, number: int, offset: int, line: bytes, event: Exchanged | Spanned) -> Held | HeldSpan:
        """Get to know a line; what it goes on from was added before."""
        place = Place(self._path, number, offset, len(line))
        if isinstance(event, Exchanged):
            found = held(event.exchange, place, self._exchanges)
            self._exchanges.setdefault(found.id, found)
        else:
            span = event.span
            scores = [said.get("gen_ai.evaluation.name") for name, said in span.events if name == EVALUATION]
            found = HeldSpan(
                place=place,
                trace=span.trace,
                id=span.id,
                logged_at=span.logged_at,
                at=event.at,
                evaluation=",".join(map(str, scores)) if span.logged_at else "",
            )
        self._known[offset, hash(line)] = found
        return found


def held(exchange: Exchange, place: Place, before: dict[str, Held]) -> Held:
    """An exchange as it is known, where those `before` it in its journal are known by their ids."""
    seed = canonical_json([exchange.thread]).encode() if exchange.named else b""
    parent = before.get(exchange.after) if exchange.after is not None else None
    start = seed
    if parent and exchange.choice < len(parent.answered):
        start = parent.answered[exchange.choice] or end(parent)
    else:
        parent = None
    chain = digests(exchange.messages, start)
    last = chain[-1] if chain else start
    return Held(
        place=place,
        id=exchange.id,
        thread=exchange.thread,
        named=exchange.named,
        after=exchange.after,
        choice=exchange.choice,
        started_at=exchange.started_at,
        ended_at=exchange.ended_at,
        seed=start,
        chain=tuple(chain),
        answered=tuple(digests(answer, last)[-1] if answer else None for answer in exchange.answers),
        lost=exchange.after is not None and parent is None,
    )


def end(exchange: Held) -> bytes:
    """The digest of all messages of an exchange."""
    return exchange.chain[-1] if exchange.chain else exchange.seed


# What this process knows of the journals of each folder, by name. Whoever reads it holds the workspace.
_SHELVES: dict[Path, dict[str, Shelf]] = {}


def shelves(folder: Path, paths: Iterable[Path]) -> dict[str, Shelf]:
    """What is known of the journals of a folder; of others nothing is kept."""
    before = _SHELVES.get(folder, {})
    _SHELVES[folder] = {path.name: before.get(path.name) or Shelf(path) for path in paths}
    return _SHELVES[folder]
