"""Joining: the exchanges of all journals as threads, and each thread as the lines that its calls make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from flywheel.capture.exchanges import Exchange
from flywheel.capture.importers.conversations import digests
from flywheel.capture.importers.dialects import Message
from flywheel.schema import canonical_json


class Node(msgspec.Struct, eq=False, kw_only=True):
    """An exchange where it stands: what it goes on from (an exchange and which of its answers), and where it lies.

    `chain` has a digest of each beginning of the conversation: of all of it, or of what follows `parent` where the
    exchange holds no more than that. `lost` says that what it goes on from is nowhere.
    """

    exchange: Exchange
    journal: str
    line: int
    parent: Node | None = None
    choice: int = 0
    chain: list[bytes] = []
    seed: bytes = b""
    lost: bool = False

    @property
    def end(self) -> bytes:
        """The digest of all messages."""
        if self.chain:
            return self.chain[-1]
        return self.parent.answered(self.choice) if self.parent else self.seed

    def answered(self, choice: int) -> bytes:
        """The digest of all messages and an answer."""
        return [self.end, *digests(self.exchange.answers[choice], self.end)][-1]

    def messages(self) -> list[Message]:
        """All messages, from the first."""
        parts: list[list[Message]] = [self.exchange.messages]
        node = self
        while node.exchange.after is not None and node.parent:
            parts.append(node.parent.exchange.answers[node.choice])
            parts.append(node.parent.exchange.messages)
            node = node.parent
        return [message for part in reversed(parts) for message in part]


class Answer(msgspec.Struct, frozen=True, eq=False):
    """One answer of an exchange; an exchange that got none has one of number 0, with nothing said."""

    node: Node
    choice: int

    @property
    def id(self) -> str:
        """The exchange's id; `#N` follows that of its other choices."""
        return f"{self.node.exchange.id}#{self.choice}" if self.choice else self.node.exchange.id

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
        return max(node.exchange.ended_at for node in self.nodes)


def threads(nodes: Iterable[Node]) -> list[Thread]:
    """The threads of exchanges: of one name, or going on from one another by what was said, message for message.

    Nodes come in the order in which their journals hold them; of records of one exchange one that is whole counts.
    """
    nodes = list(nodes)
    _resolve(nodes)
    best: dict[str, Node] = {}
    for node in sorted(nodes, key=lambda node: (node.lost, node.exchange.after is not None, node.journal, node.line)):
        best.setdefault(node.exchange.id, node)
    for node in best.values():
        if node.parent:  # the one of its records that counts
            node.parent = best[node.parent.exchange.id]
    kept = sorted(best.values(), key=lambda node: (node.exchange.started_at, node.exchange.id))
    _link(kept)
    found: dict[tuple[bool, str], list[Node]] = {}
    for node in kept:
        root = node
        while not node.exchange.named and root.parent:
            root = root.parent
        found.setdefault((node.exchange.named, root.exchange.thread), []).append(node)
    return [Thread(id, nodes) for (_, id), nodes in found.items()]


def _resolve(nodes: Sequence[Node]) -> None:
    """Find what each exchange says that it goes on from, in the same journal."""
    known: dict[tuple[str, str], Node] = {}
    for node in nodes:
        exchange = node.exchange
        node.seed = canonical_json([exchange.thread]).encode() if exchange.named else b""
        before = node.seed
        if exchange.after is not None:
            parent = known.get((node.journal, exchange.after))
            if parent and exchange.choice < len(parent.exchange.answers):
                node.parent, node.choice = parent, exchange.choice
                before = parent.answered(exchange.choice)
            else:
                node.lost = True
        node.chain = digests(exchange.messages, before)
        known.setdefault((node.journal, exchange.id), node)


def _link(nodes: Sequence[Node]) -> None:
    """Find what exchanges that were written whole go on from: the longest that opens them, the last before them."""
    tips: dict[bytes, list[tuple[Node, int]]] = {}
    for node in nodes:
        for choice, answer in enumerate(node.exchange.answers):
            if answer:
                tips.setdefault(node.answered(choice), []).append((node, choice))
    for node in nodes:
        if node.parent or node.lost:
            continue
        for digest in reversed(node.chain):
            if found := [tip for tip in tips.get(digest, ()) if tip[0] is not node]:
                before = [tip for tip in found if tip[0].exchange.ended_at <= node.exchange.started_at]
                node.parent, node.choice = before[-1] if before else found[0]
                break


def lines(thread: Thread) -> list[Line]:
    """The lines of a thread, the main one first: the longest on which its first exchange is.

    Each answer is on one at least. An exchange without an answer is an attempt at the line of one that asked the same
    and got one, where there is such a one, else the end of a line.
    """
    first = thread.nodes[0]
    answered: dict[bytes, Node] = {}
    for node in thread.nodes:
        if node.exchange.answers:
            answered.setdefault(node.end, node)
    attempts: dict[Node, list[Node]] = {}
    calls: list[Node] = []
    for node in thread.nodes:
        if not node.exchange.answers and node.end in answered:
            attempts.setdefault(answered[node.end], []).append(node)
        else:
            calls.append(node)
    gone_on = {(node.parent, node.choice) for node in calls}
    every = (Answer(node, choice) for node in calls for choice in range(max(1, len(node.exchange.answers))))
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
    last = line.last
    node = last.node
    found = digests(last.said, node.end)[::-1]
    while node.exchange.after is not None and node.parent:
        found += reversed(node.chain)
        before = node.parent
        found += reversed(digests(before.exchange.answers[node.choice], before.end))
        node = before
    return [*node.chain, *reversed(found)]
