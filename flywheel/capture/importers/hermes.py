"""Hermes: agent trajectories, single and batch, and function-calling sets, in ShareGPT turns with tagged text.

As NousResearch/hermes-agent writes them (`agent/trajectory.py`, `batch_runner.py`), and the sets that models of this
name are trained on. The agent saves a session after each user turn, whole, but with the latest question in the place of
the first: the first one is taken back from the record of the session's first turn, where the file has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records, sharegpt, tagged
from flywheel.capture.importers.openings import Openings
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import EndState, Step

NAME = "hermes"
MARKS = (b"<tool_call>", b"<tool_response>", b"<tools>", b'"prompt_index"', b'"toolsets_used"', b'"api_calls"')
SUMMARY = "[CONTEXT SUMMARY]:"
STATISTICS = ("tool_stats", "tool_error_counts")  # padded with zeros for every tool there is


class Session(sharegpt.Conversation, kw_only=True):
    """One record; only the agent's have `completed`, and only the batch runner's `partial` and `metadata`."""

    completed: bool | None = None
    partial: bool | None = None
    metadata: dict[str, Any] | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds Hermes records."""
    own = any(mark in head for mark in MARKS) or (b'"completed"' in head and b'"timestamp"' in head)
    return own and sharegpt.detect(head)


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The records of a file: lines, a list, or one alone."""
    openings = Openings()
    with documents.opened(path) as data:
        yield from records.read(
            documents.records(data),
            lambda raw, origin: _make(raw, origin, openings),
            format=NAME,
            path=path,
            workspace=workspace,
            arrived_at=arrived_at,
        )


def _make(raw: Any, origin: Origin, openings: Openings) -> Made:
    said = msgspec.convert(raw, Session)
    if not said.conversations:
        raise ValueError("the conversation has no turns")
    turns, opening = said.conversations, None
    if said.completed is not None:
        turns, opening = openings.restored(turns)
    steps, tools = _steps(turns, said.tools)
    about = said.metadata or {}
    model = said.model or str(about.get("model") or "")
    # The first question alone: the records of one session go on differently, and are to stay together in a split.
    asked = [step for step in steps if step.role == "user" and step.content][:1]
    task = str(said.task_id or chat.opening(asked))
    trajectory = sharegpt.conversation(
        raw,
        said,
        origin,
        steps,
        tools,
        task_id=task,
        task_group=task,
        task_type=said.task_type or ("hermes" if said.completed is not None else "chat"),
        agent="hermes-agent" if said.completed is not None else model or "unknown",
        model=model,
        end_state=_end_state(said, steps),
        metadata=_about(raw, about) | {"source_id": said.id, "opening": opening},
    )
    return trajectory, said.outcomes(trajectory, origin)


def _about(raw: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """What is said of the run, without answers and without the counts of tools that were never used."""
    about = {**metadata, **{k: v for k, v in raw.items() if k not in sharegpt.Conversation.__struct_fields__}}
    about.pop("metadata", None)
    for name in STATISTICS:
        if isinstance(counts := about.get(name), dict):
            about[name] = {tool: n for tool, n in counts.items() if (any(n.values()) if isinstance(n, dict) else n)}
    return {k: v for k, v in about.items() if k.lower() not in chat.REFERENCES}


def _end_state(said: Session, steps: Sequence[Step]) -> EndState:
    """As the agent says; that it completed is no verdict on what it did."""
    if said.completed is None:
        return chat.end_state(steps)
    return "partial" if said.partial else "completed" if said.completed else "failed"


def _steps(turns: Sequence[dict[str, Any]], tools: Any) -> tuple[tuple[Step, ...], list[dict[str, Any]]]:
    """The steps, and the tools that the record or its system prompt lists."""
    messages: list[dict[str, Any]] = []
    offered = msgspec.json.decode(tools) if isinstance(tools, str) and tools.strip() else tools or []
    open_calls: list[str] = []
    made = 0
    for number, raw in enumerate(turns):
        turn = msgspec.convert(raw, sharegpt.Turn)
        role = sharegpt.role(turn.speaker, number)
        text = turn.value if isinstance(turn.value, str) else None
        beside = {k: v for k, v in raw.items() if k not in ("from", "value", "role", "content")}
        if role == "tool":
            results = _results(_text(turn.value))
            results[0] |= beside
            for at, result in enumerate(results):
                result["tool_call_id"] = result["tool_call_id"] or (open_calls[at] if at < len(open_calls) else None)
            messages += results
            continue
        if turn.speaker == "function_call" or (role == "assistant" and text is not None):
            answers = turns[number + 1] if number + 1 < len(turns) else {}
            known = _results(_text(answers.get("value"))) if answers.get("from") == "tool" else []
            message, functions = sharegpt.called(turn, number) if turn.speaker == "function_call" else _said(text or "")
            ids = [(known[at]["tool_call_id"] if at < len(known) else None) for at in range(len(functions))]
            open_calls = [id or f"call_{made + at}" for at, id in enumerate(ids)]
            made += len(functions)
            calls = [{"id": id, "function": f} for id, f in zip(open_calls, functions, strict=True)]
            messages.append(beside | message | {"tool_calls": calls})
            continue
        if role == "system" and text and not offered:
            offered = tagged.tools(text)
        message = beside | {"role": role, "content": turn.value}
        if role == "user" and text and text.startswith(SUMMARY):
            message["summary"] = True
        messages.append(message)
    steps = chat.steps(messages)
    offered = msgspec.convert(offered, list[dict[str, Any]])
    return tuple(_judged(step) if step.role == "tool" else step for step in steps), [_tool(tool) for tool in offered]


def _said(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message and the functions it calls. A call that cannot be read stays in the text, and is counted."""
    reasoning, rest = tagged.thoughts(text)
    found = tagged.blocks(rest, "tool_call")
    read = [block for block in found if _is_call(block.value)]
    message: dict[str, Any] = {"role": "assistant", "content": tagged.without(rest, read), "reasoning": reasoning}
    if read and not message["content"]:
        message["content"] = None
    if len(read) < len(found):
        message["unread_calls"] = len(found) - len(read)
    return message, [{"name": b.value["name"], "arguments": b.value.get("arguments") or {}} for b in read]


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    return isinstance(value.get("arguments"), str | dict | None)


def _results(text: str | None) -> list[dict[str, Any]]:
    """The results in a tool's turn, one message each; a turn without tags is one result."""
    found = tagged.blocks(text or "", "tool_response")
    if not found:
        return [{"role": "tool", "content": text, "tool_call_id": None}]
    results: list[dict[str, Any]] = []
    for block in found:
        value, id, name = block.body, None, None
        if isinstance(block.value, dict) and "content" in block.value and {"name", "tool_call_id"} & block.value.keys():
            value, id, name = (block.value.get(key) for key in ("content", "tool_call_id", "name"))
        name = name if isinstance(name, str) and name != "unknown" else None
        results.append({"role": "tool", "content": _text(value), "tool_call_id": str(id) if id else None, "name": name})
    return results


def _text(value: Any) -> str | None:
    """A result as text: the agent parsed what was JSON, so it is printed again as tools mostly print it."""
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _tool(raw: dict[str, Any]) -> dict[str, Any]:
    """A tool without the `required` beside its parameters, which is always null."""
    return {key: value for key, value in raw.items() if key != "required" or value is not None}


def _judged(step: Step) -> Step:
    """A result is an error where the agent's own statistics count it as a failure."""
    text = (step.content or "").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return msgspec.structs.replace(step, is_error=not text or text.lower().startswith("error:"))
    parts = (
        [part for part in (value, value.get("content")) if isinstance(part, dict)] if isinstance(value, dict) else []
    )
    failed = any(part.get("error") is not None for part in parts) or bool(parts and value.get("success") is False)
    return msgspec.structs.replace(step, is_error=failed)
