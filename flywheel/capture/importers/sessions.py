"""Sessions: lines that name their parents, as a tree of turns and the paths through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from flywheel.capture.importers.documents import Piece

# How many times its lines the paths of a file may hold together, and how many lines they may in any case.
MANY, ALLOWANCE = 20, 100_000


class Line(msgspec.Struct, kw_only=True):
    """What the tree needs to know of a line. `role` is empty for one that is no message; it only leads to its parent.

    `agent` tells the agents of a session apart, the main one is empty; `follows` is the line after which a history
    begins anew; `message` names the API's message that this is a part of; `answers` the calls that it answers.
    """

    piece: Piece
    uuid: str
    parent: str | None
    session: str
    agent: str = ""
    follows: str | None = None
    role: str = ""
    message: str | None = None
    answers: frozenset[str] = frozenset()


class Turn:
    """Lines that are one message: a streamed one of the assistant, or the results of its calls.

    `results` is the turn that answers its calls, `answers` are the calls that it answers itself.
    """

    def __init__(self, line: Line, before: Turn | None, cut_from: str | None) -> None:
        self.lines = [line]
        self.answers = set(line.answers)
        self.before = before
        self.cut_from = cut_from
        self.results: Turn | None = None
        self.followed = 0
        self.told = False
        self.depth = 0  # lines from the first of its path to the last of it


class Way(msgspec.Struct):
    """A path from a first turn to a last one: what one agent saw, in order.

    `cut_from` is the line that the first turn names as what stands before it and that is not on the path.
    `branches` is how many turns of the path are followed by more than one.
    """

    turns: Sequence[Turn]
    cut_from: str | None
    branches: int

    @property
    def lines(self) -> list[Line]:
        return [line for turn in self.turns for line in turn.lines]


def ways(lines: Sequence[Line]) -> tuple[list[Way], list[Line]]:
    """Every path through the tree of lines, by where it ends in the file; and the lines whose parents form a ring.

    A parent is looked for in its session first, then in the others (a session that was resumed under a new name).
    A line of another agent is never on a path: a sub-agent's begins where it was called. Of a file with so many dead
    ends that its paths would hold `MANY` times its lines, the earlier ones begin where they part from another.
    """
    parents, cuts = _parents(lines)
    children: dict[int, list[int]] = {}
    for number, parent in enumerate(parents):
        if parent is not None:
            children.setdefault(parent, []).append(number)
    turns: dict[int, Turn | None] = {}
    all_turns: list[Turn] = []
    waiting = [n for n in reversed(range(len(lines))) if parents[n] is None]
    while waiting:
        number = waiting.pop()
        parent = parents[number]
        before = turns[parent] if parent is not None else None
        cut = cuts[number]
        if lines[number].role:
            turn = _joined(lines[number], before)
            if turn is None:
                turn = Turn(lines[number], before, cut)
                all_turns.append(turn)
                if before:
                    before.followed += 1
                    if lines[number].answers and before.results is None:
                        before.results = turn
            turns[number] = turn
        else:
            turns[number] = before
            # What follows a line that is no message begins where that line does.
            for child in children.get(number, ()) if before is None else ():
                cuts[child] = cuts[child] or cut
        waiting += reversed(children.get(number, ()))
    for turn in all_turns:
        turn.lines.sort(key=lambda line: line.piece.start)
        turn.depth = len(turn.lines) + (turn.before.depth if turn.before else 0)
    left = max(MANY * len(lines), ALLOWANCE)
    found = []
    for last in sorted((t for t in all_turns if not t.followed), key=lambda t: t.lines[-1].piece.end, reverse=True):
        whole = last.depth <= left
        left -= last.depth if whole else 0
        found.append(_way(last, whole=whole))
    found.sort(key=lambda way: way.turns[-1].lines[-1].piece.end)
    return found, [line for number, line in enumerate(lines) if number not in turns]


def _parents(lines: Sequence[Line]) -> tuple[list[int | None], list[str | None]]:
    """The place of each line's parent, and the name of what stands before a line that begins a path."""
    own = {(line.session, line.uuid): number for number, line in enumerate(lines)}
    any_session: dict[str, int] = {}
    for number, line in enumerate(lines):
        any_session.setdefault(line.uuid, number)
    parents: list[int | None] = []
    cuts: list[str | None] = []
    for line in lines:
        parent = None
        if line.parent is not None:
            parent = own.get((line.session, line.parent), any_session.get(line.parent))
        if parent is not None and lines[parent].agent != line.agent:
            parent = None
        parents.append(parent)
        cuts.append((line.parent or line.follows) if parent is None else None)
    return parents, cuts


def _joined(line: Line, before: Turn | None) -> Turn | None:
    """The turn that a line is a part of, if it is one that stands already; the line is added to it.

    Parts of one streamed message follow each other, or the result of a part that was answered at once. Results of
    calls of one message are siblings, or follow each other; the same call answered twice is a rewritten history.
    """
    if before is None:
        return None
    into = None
    if line.role == "assistant" and line.message is not None:
        candidates: Iterable[Turn | None] = (before, before.before)
        into = next((t for t in candidates if t and t.lines[0].message == line.message), None)
        if into is before.before and before is not (into and into.results):
            into = None
    elif line.answers:
        into = before if before.answers else before.results
        if into and into.answers & line.answers:
            into = None
    if into:
        into.lines.append(line)
        into.answers |= line.answers
    return into


def _way(last: Turn, *, whole: bool) -> Way:
    """The path to a turn, or what of it is on no other; after all of it, every turn of it is told."""
    turns: list[Turn] = []
    turn: Turn | None = last
    while turn and (whole or not turn.told):
        turns.append(turn)
        turn.told = True
        turn = turn.before
    turns.reverse()
    return Way(
        turns=turns,
        cut_from=turn.lines[-1].uuid if turn else turns[0].cut_from,
        branches=sum(turn.followed > 1 for turn in turns),
    )
