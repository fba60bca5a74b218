"""Trajectories of threads and of traces: each conversation one, each answer in one of them as its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture.importers.conversations import Call, Conversation, conversation
from flywheel.capture.importers.dialects import Message
from flywheel.capture.importers.trace import Trace
from flywheel.capture.settling import joining
from flywheel.capture.settling.joining import Answer, Line, Node, Thread
from flywheel.capture.validity import checked
from flywheel.schema import Trajectory, canonical_json, stable_id

# What an exchange's `about` says that is a field of its trajectory.
FIELDS = ("task_id", "task_group", "task_type", "agent", "agent_version")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation to be stored: which of a thread's it is, under what id, the answers that are its own (stored with
    no other), and the trajectory that it goes on from, all of whose answers it has."""

    number: int
    id: str
    own: list[str]
    continues: str | None


def parts(
    thread: str, conversations: Sequence[Sequence[str]], stored: Mapping[str, str], taken: Collection[str]
) -> list[Part]:
    """What is to be stored of a thread's conversations, each told as its answers' ids in order, the main one first.

    `stored` names the trajectory that has an answer; `taken` are ids that trajectories have. The main conversation
    gets the thread's id, once; whatever else has answers of its own an id made of the thread and the last of those.
    """
    found = []
    owner = dict(stored)
    for number, answers in enumerate(conversations):
        own = [answer for answer in answers if answer not in owner]
        if not own:
            continue
        main = number == 0 and thread not in taken
        id = thread if main else stable_id(thread, own[-1])
        before = next((stored[answer] for answer in reversed(answers) if answer in stored), None)
        if before and any(name == before and answer not in answers for answer, name in stored.items()):
            before = None  # it parts from that one before its end
        if number == 0 and not main and not any(answer in stored for answer in answers):
            before = thread  # that is stored, and of which nothing is here any more
        owner |= dict.fromkeys(own, id)
        found.append(Part(number=number, id=id, own=own, continues=before))
    return found


def of_thread(thread: Thread, workspace: str, stored: Mapping[str, str], taken: Collection[str]) -> list[Trajectory]:
    """The trajectories of a thread that are not stored yet. Raises ValueError where a message is malformed."""
    lines = joining.lines(thread)
    lines += [
        Line(joining.path_to(Answer(attempt, 0)))  # one at an answer that is stored without it
        for line in lines
        for attempt in line.attempts
        if attempt.id not in stored and all(answer.id in stored for answer in line.path)
    ]
    told = [[answer.id for answer in line.path] for line in lines]
    found = {part.number: part for part in parts(thread.id, told, stored, taken)}
    # What a branch parts from is the main line, another that is made, or one that is stored.
    order = sorted(range(len(lines)), key=lambda number: number in found)
    seen: set[bytes] = set()
    given: set[str] = set()
    made = []
    for number in order:
        chain = joining.beginnings(lines[number])
        if part := found.get(number):
            fork = next((at for at, digest in enumerate(chain) if digest not in seen), len(chain))
            tried = [attempt.id for attempt in lines[number].attempts]
            own = part.own + [id for id in tried if id not in given and id not in stored]
            given.update(own)
            made.append(_trajectory(thread, lines[number], part, own, fork if seen else None, workspace))
        seen.update(chain)
    return made


def of_trace(
    whole: Trace, at: datetime, workspace: str, stored: Mapping[str, str], taken: Collection[str]
) -> list[Trajectory]:
    """The trajectories, not stored yet, of a trace of which something came in last `at`."""
    made = []
    for part in parts(whole.id, [calls_of(whole, found) for found in whole.conversations], stored, taken):
        found = whole.conversations[part.number]
        about = {**whole.metadata(found), "exchanges": part.own, "continues": part.continues}
        made.append(
            _checked(workspace, id=part.id, arrived_at=at, source="otlp", metadata=about, **whole.fields(found))
        )
    return made


def calls_of(whole: Trace, found: Conversation) -> list[str]:
    """The names of a conversation's calls in order: spans' ids are told apart within a trace alone."""
    order = sorted(found.answers, key=lambda id: (found.answers[id], id))
    order += [found.last.id] if found.last.id not in found.answers else []
    return [f"{whole.id}:{id}" for id in order]


def _trajectory(
    thread: Thread, line: Line, part: Part, own: Sequence[str], fork: int | None, workspace: str
) -> Trajectory:
    nodes = [answer.node for answer in line.path]
    told = conversation(_calls(line), [])
    if not told.steps:
        raise ValueError("nothing was said")
    last = line.last.node.exchange
    about: dict[str, Any] = {}
    redactions: Counter[str] = Counter()
    for node in nodes:
        about |= {name: value for name, value in node.exchange.about.items() if value not in (None, "")}
        redactions.update(node.exchange.about.get("redactions") or {})
    steps = list(told.steps)
    for answer in line.path:
        exchange = answer.node.exchange
        if answer.id in told.answers:
            at = told.answers[answer.id]
            changed = {n: v for n, v in exchange.about.items() if n != "redactions" and v != about.get(n)}
            details = exchange.details[answer.choice] if answer.choice < len(exchange.details) else {}
            said = msgspec.json.decode(steps[at].metadata)
            metadata = canonical_json({**said, **changed, **details, "exchange": answer.id})
            steps[at] = msgspec.structs.replace(steps[at], metadata=metadata)
    fields = told.fields(agent=str(about.get("agent") or ""))
    given = {name: str(about[name]) for name in FIELDS if about.get(name)}
    if "task_id" in given:
        given.setdefault("task_group", given["task_id"])
    tried = [
        {"exchange": n.id, "at": n.exchange.ended_at, "state": n.exchange.state, "error": n.exchange.error}
        for n in line.attempts
    ]
    branch = fork is not None and part.continues is None and part.id != thread.id
    return _checked(
        workspace,
        id=part.id,
        arrived_at=max(n.exchange.ended_at for n in (*nodes, *line.attempts)),
        source="gateway",
        metadata={
            **{name: value for name, value in about.items() if name not in FIELDS},
            "exchanges": list(own),
            "thread": thread.id,
            "branch_of": thread.id if branch else None,
            "fork": fork if branch else None,
            "continues": part.continues,
            "attempts": tried or None,
            "lost_before": nodes[0].held.after if nodes[0].held.lost else None,
            "redactions": dict(sorted(redactions.items())) or None,
            "error": last.error or None,
        },
        **fields | given | {"steps": tuple(steps)} | ({} if last.state == "completed" else {"end_state": last.state}),
    )


def _calls(line: Line) -> list[Call]:
    """The calls of a line, the last one first; the messages of each are the first so many of those of the last."""
    messages = line.last.node.messages()
    counts: dict[Node, int] = {}
    return [_call(answer, messages[: _count(answer.node, counts)]) for answer in line.path][::-1]


def _count(node: Node, counts: dict[Node, int]) -> int:
    """How many messages an exchange has; `counts` knows those before it."""
    path = [node]
    while path[-1] not in counts and (base := path[-1].base):
        path.append(base[0])
    for one in reversed(path):
        if one not in counts:
            before = counts[one.base[0]] + len(one.base[0].exchange.answers[one.base[1]]) if one.base else 0
            counts[one] = before + len(one.held.chain)
    return counts[node]


def _call(answer: Answer, messages: list[Message]) -> Call:
    exchange = answer.node.exchange
    return Call(
        id=answer.id,
        messages=messages,
        answer=answer.said,
        tools=exchange.tools,
        model=exchange.model,
        provider=exchange.provider,
        prompt_tokens=exchange.prompt_tokens,
        # Of several choices it is told for all of them at once.
        completion_tokens=exchange.completion_tokens if len(exchange.answers) == 1 else None,
        started_at=exchange.started_at,
        ended_at=exchange.ended_at,
        failed=exchange.state == "failed",
        error=exchange.error,
    )


def _checked(workspace: str, *, metadata: Mapping[str, Any], **fields: Any) -> Trajectory:
    about = {name: value for name, value in metadata.items() if value is not None}
    text = msgspec.json.encode(about, order="sorted").decode()
    return checked(Trajectory(workspace=workspace, metadata=text, **fields))
