"""Pages: what each journal holds, read for settling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from flywheel.capture.erasing import forget, traces
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import (
    Began,
    Closed,
    Ended,
    Event,
    Exchanged,
    Said,
    SetAside,
    Spanned,
    Told,
    Whole,
    decoded,
)
from flywheel.capture.journals.held import Held, HeldSpan, Shelf
from flywheel.capture.journals.journal import Torn
from flywheel.capture.journals.unfinished import Unfinished
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.schema import Outcome, Quarantined, Trajectory


class Page(msgspec.Struct):
    """What one journal holds; `dead` when its writer is gone. The open trajectories arrive with their last event."""

    path: Path
    dead: bool
    ended: list[Trajectory]
    open: dict[str, Trajectory]
    outcomes: list[Outcome]
    torn: list[Torn]
    refused: list[Quarantined] = []
    erased: int = 0
    exchanges: list[Held] = []
    spans: list[HeldSpan] = []
    closed: list[Closed] = []


def page_of(path: Path, arrivals: Arrivals, known: Shelf, *, dead: bool) -> Page:
    """What a journal holds. What it says of what was erased is passed over, and overwritten."""
    page = Page(path, dead, [], {}, [], [])
    events: list[tuple[int, Event | Held | HeldSpan, set[str]]] = []
    whole, tail, erased = journal.lines(path)
    for number, offset, line in whole:
        event = known.known(offset, line) or decoded(line)
        if isinstance(event, Exchanged | Spanned):
            event = known.add(number, offset, line, event)
        if isinstance(event, str):
            page.torn.append(Torn(number, event, line))
        else:
            events.append((number, event, event.ids if isinstance(event, Held | HeldSpan) else traces.ids_of(event)))
    if tail:
        page.torn.append(journal.cut_off(whole, tail))
    if not dead:
        page.torn.clear()
    gone: set[str] = set()
    if arrivals.tombstones:
        gone = arrivals.tombstones.either({id for _, _, ids in events for id in ids})
    if erased or gone:
        gone |= _orphans([event for _, event, _ in events if isinstance(event, Held) and event.ids.isdisjoint(gone)])
    if gone:
        forget.clear(path, gone)
    begun: dict[str, Unfinished] = {}
    for line, event, ids in events:
        if gone and not ids.isdisjoint(gone):
            page.erased += isinstance(event, Began | Whole | Told | Held | HeldSpan | SetAside)
        elif isinstance(event, Whole):
            page.ended.append(event.trajectory)
        elif isinstance(event, Told):
            page.outcomes.append(event.outcome)
        elif isinstance(event, Began):
            begun[event.trajectory.id] = Unfinished(event.trajectory)
        elif isinstance(event, Held):
            page.exchanges.append(event)
        elif isinstance(event, HeldSpan):
            page.spans.append(event)
        elif isinstance(event, Closed):
            page.closed.append(event)
        elif isinstance(event, SetAside):
            page.refused.append(event.input)
        elif isinstance(event, Said | Ended) and event.id in begun:
            if ended := begun[event.id].take(event):
                page.ended.append(ended)
                del begun[event.id]
        else:
            page.torn.append(Torn(line, "this trajectory has not begun here", msgspec.json.encode(event)))
    page.open = {id: unfinished.so_far for id, unfinished in begun.items()}
    page.torn.sort(key=lambda torn: torn.line)
    return page


def _orphans(exchanges: Sequence[Held]) -> set[str]:
    """The exchanges that go on from one that was erased. Without an erased line, it was torn: then they are stored."""
    here: set[str] = set()
    orphans: set[str] = set()
    for exchange in exchanges:
        (here if exchange.after is None or exchange.after in here else orphans).add(exchange.id)
    return orphans
