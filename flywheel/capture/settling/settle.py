"""Settling: what ended in the journals becomes stored rows, and journals that hold nothing more are removed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from flywheel import artifacts
from flywheel.capture import workspaces
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.journals import journal
from flywheel.capture.journals.held import shelves
from flywheel.capture.journals.journal import Torn
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.capture.settling.gathered import IDLE, Bad, Gathering
from flywheel.capture.settling.pages import Page, page_of
from flywheel.schema import Outcome, Quarantined, Trajectory
from flywheel.settings import Home

Row = TypeVar("Row", Trajectory, Outcome, Quarantined)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What a settle did: rows added, records that were stored already, and what waits in the journals.

    `trajectories` includes the `abandoned`: those whose writer died before their end, stored as partial. `erased`
    counts records of what was forgotten: they are not stored, and leave the journals. `quarantined` are refused inputs
    and lines that are no events.
    """

    trajectories: int
    abandoned: int
    outcomes: int
    already_there: int
    erased: int
    quarantined: int
    waiting: int
    journals_removed: int


def settle(home: Home, workspace: str, now: datetime, idle: timedelta = IDLE) -> Settled:
    """Store what the journals of a workspace hold up to `now`, and close the time up to then.

    A trajectory arrives when it ended; one that a dead writer left without an end is stored as partial and arrives with
    its last event. An outcome arrives when it was told, a refused input when it came. A thread of exchanges, or a trace
    of spans, is over when it was closed, or has been quiet for `idle`: it arrives with its last exchange or span, and
    what comes of it later is stored again as a trajectory that continues it. What happened at or before a moment that
    an earlier settle has closed arrives now instead. Events after `now` wait, as do unended trajectories of living
    writers.

    Safe to kill at any point and to run again: ids that are stored are skipped, and a dead writer's journal goes
    when everything in it is stored. Lines that are no events (the torn tail of a crash) are set aside in
    `<writer>.torn` and quarantined, as are those of which no trajectory can be made.
    """
    workspaces.require(home, workspace)
    arrivals = Arrivals(home, workspace)
    with arrivals.locked(), ExitStack() as claims:
        paths = journal.paths(arrivals.folder)
        known = shelves(arrivals.folder, paths)
        pages = [page_of(p, arrivals, known[p.name], dead=claims.enter_context(journal.claimed(p))) for p in paths]
        candidates, abandoned = _candidates(pages)
        due = {i: t for i, t in candidates.items() if t.arrived_at <= now}
        told = [outcome for page in pages for outcome in page.outcomes]
        outcomes = [outcome for outcome in told if outcome.arrived_at <= now]
        open_ids = {i for page in pages for i in page.open} - due.keys()
        refused = [row for page in pages for row in page.refused]
        inputs = [row for row in refused if row.arrived_at <= now]
        waiting = (candidates.keys() - due.keys()) | open_ids
        remembered = _remembered(arrivals)
        gathered = Gathering(
            arrivals,
            remembered,
            taken=candidates.keys() | open_ids,
            closed=[event for page in pages for event in page.closed],
            now=now,
            idle=idle,
        ).gather([e for page in pages for e in page.exchanges], [s for page in pages for s in page.spans])
        _add_bad(pages, gathered.bad)

        torn = _set_aside(pages, workspace, arrivals.moment(now, now))
        bad = [*torn, *(_arriving(row, arrivals, now) for row in inputs)]
        quarantined = arrivals.add_quarantined(bad)
        new = arrivals.new_trajectories(list(due))
        ended = [*(due[i] for i in sorted(new)), *sorted(gathered.rows, key=lambda row: row.id)]
        rows = [_arriving(row, arrivals, now) for row in ended]
        heard = sorted([*outcomes, *gathered.outcomes], key=lambda outcome: outcome.id)
        facts = [_arriving(outcome, arrivals, now) for outcome in heard]
        outcomes_added = arrivals.add_outcomes(facts)
        arrivals.add_trajectories(rows)
        if gathered.stored != remembered:
            artifacts.write_json(arrivals.folder / journal.SETTLED, gathered.stored)
        arrivals.close(max([now, *(row.arrived_at for row in (*rows, *facts, *bad))]))

        finished = [
            page.path
            for page in pages
            if page.dead and not _waits(page, waiting, now) and page.path.name not in gathered.held
        ]
        for path in finished:
            path.unlink()
        return Settled(
            trajectories=len(rows),
            abandoned=len(new & abandoned),
            outcomes=outcomes_added,
            already_there=len(due) - len(new) + len(facts) - outcomes_added,
            erased=sum(page.erased for page in pages),
            quarantined=quarantined,
            waiting=len(waiting) + len(gathered.waiting) + len(told) - len(outcomes) + len(refused) - len(inputs),
            journals_removed=len(finished),
        )


def _remembered(arrivals: Arrivals) -> dict[str, str]:
    """Which trajectory has which answer, of those that the journals hold; see `Gathered.stored`."""
    path = arrivals.folder / journal.SETTLED
    return artifacts.read_json(path) if path.exists() else {}


def _add_bad(pages: Sequence[Page], bad: Sequence[Bad]) -> None:
    """Have events of which no trajectory can be made set aside, as lines that are none."""
    of_name = {page.path.name: page for page in pages}
    for one in bad:
        data = msgspec.json.encode(one.place.event())
        of_name[one.place.path.name].torn.append(Torn(one.place.line, one.error, data))


def _candidates(pages: Sequence[Page]) -> tuple[dict[str, Trajectory], set[str]]:
    """One trajectory an id, and the ids of the abandoned: the first that ended, else the longest a dead writer left.

    What a living writer still writes is not a candidate.
    """
    best: dict[str, Trajectory] = {}
    for trajectory in (t for page in pages for t in page.ended):
        if trajectory.id not in best or trajectory.arrived_at < best[trajectory.id].arrived_at:
            best[trajectory.id] = trajectory
    living = {id for page in pages if not page.dead for id in page.open}
    left: dict[str, Trajectory] = {}
    for id, trajectory in ((i, t) for page in pages if page.dead for i, t in page.open.items()):
        if id not in best and id not in living and (id not in left or len(trajectory.steps) > len(left[id].steps)):
            left[id] = trajectory
    return best | left, set(left)


def _arriving(row: Row, arrivals: Arrivals, now: datetime) -> Row:
    return msgspec.structs.replace(row, arrived_at=arrivals.moment(row.arrived_at, now))


def _set_aside(pages: Sequence[Page], workspace: str, at: datetime) -> list[Quarantined]:
    """Keep the lines that are no events beside their journals; returns the rows that tell of them."""
    rows: list[Quarantined] = []
    for page in pages:
        if page.torn:
            aside = page.path.with_suffix(".torn")
            before = aside.read_bytes().split(b"\n")[:-1] if aside.exists() else []
            lines = dict.fromkeys([*before, *(line.data for line in page.torn)])
            artifacts.write_bytes(aside, b"".join(line + b"\n" for line in lines))
        rows += [
            Quarantined(
                workspace=workspace,
                source=page.path.name,
                line=line.line,
                error=line.error,
                excerpt=line.data[:EXCERPT].decode("utf-8", "replace"),
                arrived_at=at,
            )
            for line in page.torn
        ]
    return rows


def _waits(page: Page, waiting: set[str], now: datetime) -> bool:
    """Whether something in a journal is still to be stored."""
    held = {trajectory.id for trajectory in page.ended} | page.open.keys()
    moments = [*(row.arrived_at for row in (*page.outcomes, *page.refused)), *(event.at for event in page.closed)]
    return any(moment > now for moment in moments) or bool(held & waiting)
