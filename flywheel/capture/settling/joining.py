"""Joining: the exchanges of all journals as threads, and each thread as the lines that its calls make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from flywheel.capture.importers.conversations import digests
from flywheel.capture.importers.dialects import Message
from flywheel.capture.journals.events import Exchanged
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.held import Held, end


class Node(msgspec.Struct, eq=False):
    """An exchange and what it goes on from: another, and which of its answers.

    `base` is the one whose messages and answer its line leaves out; the `parent` may be one that came after that and
    that its writer did not know, since another wrote it.
    """

    held: Held
    parent: Node | None = None
    choice: int = 0
    base: tuple[Node, int] | None = None
    said: Exchange | None = None

    @property
    def id(self) -> str:
        """The exchange's id."""
        return self.held.id

    @property
    def exchange(self) -> Exchange:
        """The exchange as the journal has it; it stays in memory until `drop`."""
        if self.said is None:
            event = self.held.place.event()
            assert isinstance(event, Exchanged)
            self.said = event.exchange
        return self.said

    def drop(self) -> None:
        """Let go of what was said."""
        self.said = None

    def messages(self) -> list[Message]:
        """All messages, from the first."""
        parts: list[list[Message]] = [self.exchange.messages]
        base = self.base
        while base:
            node, choice = base
            parts += [node.exchange.answers[choice], node.exchange.messages]
            base = node.base
        return [message for part in reversed(parts) for message in part]


class Answer(msgspec.Struct, frozen=True, eq=False):
    """One answer of an exchange; an exchange that got none has one of number 0, with nothing said."""

    node: Node
    choice: int

    @property
    def id(self) -> str:
        """The exchange's id; `#N` follows that of its other choices."""
        return f"{self.node.id}#{self.choice}" if self.choice else self.node.id

    @property
    def said(self) -> list[Message]:
        """What was answered."""
        answers = self.node.exchange.answers
        return answers[self.choice] if answers else []


class Line(msgspec.Struct, frozen=True, eq=False):
    """A conversation from its first call to one that nothing goes on from; `attempts` at the same got no answer."""

    path: list[Answer]
    attempts: list[Node] = []

    @property
    def last(self) -> Answer:
        """The last call."""
        return self.path[-1]


class Thread(msgspec.Struct, frozen=True, eq=False):
    """Exchanges that belong together, in the order of their beginnings."""

    id: str
    nodes: list[Node]

    @property
    def quiet_since(self) -> datetime:
        """When the last exchange ended."""
        return max(node.held.ended_at for node in self.nodes)


def threads(exchanges: Iterable[Held]) -> list[Thread]:
    """The threads of exchanges: of one name, or going on from one another by what was said, message for message.

    Of records of one exchange one that is whole counts.
    """
    best: dict[str, Node] = {}
    for one in sorted(exchanges, key=lambda h: (h.lost, h.after is not None, h.place.path.name, h.place.line)):
        best.setdefault(one.id, Node(one))
    nodes = sorted(best.values(), key=lambda node: (node.held.started_at, node.id))
    for node in nodes:
        if node.held.after in best and not node.held.lost:
            node.parent, node.choice = best[node.held.after], node.held.choice
            node.base = node.parent, node.choice
    _link(nodes)
    found: dict[tuple[bool, str], list[Node]] = {}
    for node in nodes:
        root = node
        while not node.held.named and root.parent:
            root = root.parent
        found.setdefault((node.held.named, root.held.thread), []).append(node)
    return [Thread(id, nodes) for (_, id), nodes in found.items()]


def _link(nodes: Sequence[Node]) -> None:
    """Find what exchanges go on from, where lines do not say it: the longest that opens them, the last before them.

    Several may end alike, as tries of one task do: each goes on once before any goes on twice, so that as many
    conversations come out as there were. Calls that got no answer leave the end to the one that is tried again.
    """
    tips: dict[bytes, list[tuple[Node, int]]] = {}
    for node in nodes:
        # The first choice is the one that clients go on with: it stands last.
        for choice, digest in reversed([*enumerate(node.held.answered)]):
            if digest:
                tips.setdefault(digest, []).append((node, choice))
    taken: set[tuple[Node, int]] = set()
    for node in nodes:
        if node.held.lost:
            continue
        base, choice = node.base or (node, 0)
        # What the line holds begins behind its base, which may have ended as others did.
        ended = [] if base is node else [base.held.answered[choice]]
        for digest in [*reversed(node.held.chain), *ended]:
            if digest is None:
                continue
            if found := [tip for tip in tips.get(digest, ()) if tip[0] is not node]:
                before = [tip for tip in found if tip[0].held.ended_at <= node.held.started_at] or found[:1]
                node.parent, node.choice = next((tip for tip in reversed(before) if tip not in taken), before[-1])
                if node.held.answered:
                    taken.add((node.parent, node.choice))
                break


def lines(thread: Thread) -> list[Line]:
    """The lines of a thread, the main one first: the longest on which its first exchange is.

    Each answer is on one at least. An exchange without an answer is an attempt at the line of one that asked the same
    and got one, where there is such a one, else the end of a line.
    """
    first = thread.nodes[0]
    answered: dict[bytes, Node] = {}
    for node in thread.nodes:
        if node.held.answered:
            answered.setdefault(end(node.held), node)
    attempts: dict[Node, list[Node]] = {}
    calls: list[Node] = []
    for node in thread.nodes:
        if not node.held.answered and end(node.held) in answered:
            attempts.setdefault(answered[end(node.held)], []).append(node)
        else:
            calls.append(node)
    gone_on = {(node.parent, node.choice) for node in calls}
    every = (Answer(node, choice) for node in calls for choice in range(max(1, len(node.held.answered))))
    ends = [answer for answer in every if (answer.node, answer.choice) not in gone_on]
    found = []
    for path in map(path_to, ends):
        nodes = dict.fromkeys(answer.node for answer in path)
        found.append(Line(path, [attempt for node in nodes for attempt in attempts.get(node, ())]))
    # Those of equal length keep the order in which their last calls began.
    found.sort(key=lambda line: (line.path[0].node is not first, -len(line.path)))
    return found


def path_to(end: Answer) -> list[Answer]:
    """The calls that lead to one, with it."""
    path = [end]
    while parent := path[-1].node.parent:
        path.append(Answer(parent, path[-1].node.choice))
    return path[::-1]


def beginnings(line: Line) -> list[bytes]:
    """A digest of each beginning of a line."""
    node = line.last.node
    found = digests(line.last.said, end(node.held))[::-1]
    while node.base:
        found += reversed(node.held.chain)
        node, choice = node.base
        found += reversed(digests(node.exchange.answers[choice], end(node.held)))
    return [*node.held.chain, *reversed(found)]
