"""Conversations: calls of a model within one trace, joined where a history goes on from an earlier answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from flywheel.capture.importers import chat, dialects
from flywheel.schema import Step, canonical_json, stable_id

Item = TypeVar("Item")
EPOCH = datetime.fromtimestamp(0, UTC)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a model and its answer, both as chat messages; its `details` are metadata of the answer's step."""

    id: str
    messages: list[dialects.Message]
    answer: list[dialects.Message]
    tools: list[dict[str, Any]] = []
    model: str = ""
    provider: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failed: bool = False
    error: str = ""
    details: dict[str, Any] = {}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool gave, as its own record tells it."""

    tool_call_id: str | None
    name: str
    content: str
    at: datetime | None = None
    failed: bool = False


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of the longest call and its answer; `answers` are the calls in it, with the step that each ends on."""

    steps: tuple[Step, ...]
    last: Call
    tools: list[dict[str, Any]]
    answers: dict[str, int]
    started_at: datetime | None

    def fields(self, agent: str = "") -> dict[str, Any]:
        """The fields of a trajectory that follow from a conversation; its task is how it opens."""
        opening = [step.content or "" for step in self.steps if step.role in ("system", "user")][:2]
        task = f"opening-{stable_id(*opening)[:12]}"
        whole = self.steps[-1].role == "assistant" and not self.steps[-1].tool_calls
        return {
            "task_id": task,
            "task_group": task,
            "task_type": "chat",
            "agent": agent or self.last.model or "unknown",
            "model": self.last.model,
            "provider": self.last.provider,
            "tools": canonical_json(self.tools),
            "end_state": "failed" if self.last.failed else "completed" if whole else "partial",
            "started_at": self.started_at,
            "steps": self.steps,
        }


def innermost(calls: Iterable[Call], parents: dict[str, str | None]) -> list[Call]:
    """The calls without those around others: a framework's span of a whole loop tells of its ends alone.

    `parents` names the span around each span.
    """
    calls = list(calls)
    outer: set[str] = set()
    for call in calls:
        around, inside = parents.get(span_of(call)), {span_of(call)}
        while around and around not in outer and around not in inside:  # the last where parents form a ring
            inside.add(around)
            around = parents.get(around)
        outer |= inside - {span_of(call)} if around not in inside else set()
    return [call for call in calls if span_of(call) not in outer]


def span_of(call: Call) -> str:
    """The span that told of a call: its other answers are numbered, as in `SPAN#1`."""
    return call.id.partition("#")[0]


def joined(calls: Iterable[Call], results: Iterable[Result] = ()) -> list[Conversation]:
    """The conversations of one trace, the longest first.

    A call whose history and answer open a longer call is part of it. One whose history was rewritten, or that was
    answered otherwise, is a conversation of its own. Results that no later call tells of follow the last answer.
    Raises ValueError where a message is malformed.
    """
    said = [(call, digests(call.messages + call.answer)) for call in calls]
    # Of two records of one call, the one that began later is the inner one, which knows more.
    said.sort(key=lambda pair: pair[0].id)
    said.sort(key=lambda pair: pair[0].started_at or EPOCH, reverse=True)
    waiting = sorted(results, key=lambda result: result.at or EPOCH)
    return [conversation(inside, waiting) for inside in lines(said)]


def lines(said: Iterable[tuple[Item, Sequence[bytes]]]) -> list[list[Item]]:
    """Items whose conversation is told by `digests`: together, the longest first, where one opens another.

    What opens several is with each of them. Items of no messages are left out.
    """
    leaders: list[list[Item]] = []
    opening: dict[bytes, list[int]] = {}  # the leaders that open like this
    for item, chain in sorted(said, key=lambda pair: len(pair[1]), reverse=True):
        within = opening.get(chain[-1], []) if chain else []
        for number in within:
            leaders[number].append(item)
        if chain and not within:
            for digest in chain:
                opening.setdefault(digest, []).append(len(leaders))
            leaders.append([item])
    return leaders


def conversation(calls: Sequence[Call], waiting: list[Result]) -> Conversation:
    """The conversation of the first of some calls, within which the others lie; results that it takes leave `waiting`.

    Raises ValueError where a message is malformed.
    """
    last = calls[0]
    messages = [dict(message) for message in last.messages + last.answer]
    for call in calls:
        for at, answer in enumerate(call.answer, len(call.messages)):
            # Histories drop what the model thought; the answer itself still has it.
            if answer.get("reasoning_content") and not messages[at].get("reasoning_content"):
                messages[at]["reasoning_content"] = answer["reasoning_content"]
    found = _results(last, waiting)
    told = [{"role": "tool", "content": r.content, "tool_call_id": id, "name": r.name} for id, r in found]
    steps = list(chat.steps(messages + told))
    for at, (_, result) in enumerate(found, len(messages)):
        steps[at] = msgspec.structs.replace(steps[at], at=result.at, is_error=result.failed)
    answers: dict[str, int] = {}
    for call in calls:
        if not call.answer:
            continue
        at = answers[call.id] = len(call.messages) + len(call.answer) - 1
        if call.details:
            metadata = canonical_json({**call.details, **msgspec.json.decode(steps[at].metadata)})
            steps[at] = msgspec.structs.replace(steps[at], metadata=metadata)
        if steps[at].at is None:
            steps[at] = msgspec.structs.replace(
                steps[at],
                prompt_tokens=call.prompt_tokens,
                completion_tokens=call.completion_tokens,
                at=call.ended_at,
            )
    started = [call.started_at for call in calls if call.started_at]
    return Conversation(
        steps=tuple(steps),
        last=last,
        tools=next((call.tools for call in calls if call.tools), []),
        answers=answers,
        started_at=min(started, default=None),
    )


def _results(last: Call, waiting: list[Result]) -> list[tuple[str | None, Result]]:
    """The results of the last answer's calls: by the call's id, else by the tool's name and not before the call."""
    found = []
    for message in last.answer[-1:]:
        for call in message.get("tool_calls") or ():
            for result in waiting:
                named = result.tool_call_id is None and result.name == call["function"]["name"]
                early = result.at and last.started_at and result.at < last.started_at
                if result.tool_call_id == call["id"] if result.tool_call_id else named and not early:
                    waiting.remove(result)
                    found.append((call["id"], result))
                    break
    return found


def digests(messages: Iterable[dialects.Message], before: bytes = b"") -> list[bytes]:
    """A digest of each beginning of a conversation, that goes on from what `before` is the digest of.

    SHA-256 of the digest before and of what makes two messages one: equal digests, equal conversations up to there.
    """
    found = []
    for message in messages:
        before = hashlib.sha256(before + _key(message)).digest()
        found.append(before)
    return found


def _told(value: Any) -> Any:
    """A JSON value without members that are null: some clients write them, others leave them out."""
    if isinstance(value, dict):
        return {key: _told(inner) for key, inner in value.items() if inner is not None}
    return [*map(_told, value)] if isinstance(value, list) else value


def _key(message: dialects.Message) -> bytes:
    """What makes two messages one: who said and did what. Ids, names and thoughts are not repeated faithfully.

    One that is malformed is what it is: it is told where steps are made of it.
    """
    said: Any = message
    try:
        calls = [c["function"] for c in message.get("tool_calls") or ()]
        if message.get("function_call"):
            calls.append(message["function_call"])
        role = chat.ROLES.get(message["role"], message["role"])
        done = [(c["name"], dialects.decoded(c.get("arguments"))) for c in calls]
        content = message.get("content") or ""
        said = [role, _told(content) if isinstance(content, list) else content, done]
        return msgspec.json.encode(said, order="sorted")
    except UnicodeEncodeError:
        return canonical_json(said).encode("utf-8", "surrogatepass")
    except (LookupError, TypeError, AttributeError):
        return b"malformed" + repr(message).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"too deep"
