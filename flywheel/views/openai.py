"""OpenAI fine-tuning: one chat a line (https://platform.openai.com/docs/api-reference/fine-tuning/chat-input)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.schema import Step
from flywheel.views.graded import ORIGIN, Format, Graded, Row, Unfit

LOST = {
    **ORIGIN,
    "id": "no place for it",
    "task_id": "a name made of how the conversation opens",
    "task_group": "as the task",
    "task_type": "`chat`",
    "agent": "unknown",
    "agent_version": "no place for it",
    "model": "no place for it",
    "provider": "no place for it",
    "end_state": "as the last message tells",
    "verdict": "no place for rewards and successes",
    "steps": "what follows the assistant's last message is left out: the format ends on it",
    "steps.content": "none is empty text, unless calls stand beside it",
    "steps.reasoning": "no place for thoughts",
    "steps.is_error": "no place for it",
    "steps.metadata": "`weight` alone has a place: not token ids, log-probabilities, finish reasons, parts of pictures",
}


def rows(graded: Graded, _number: int) -> list[Row]:
    """`messages`, and where tools were offered `tools` and `parallel_tool_calls`.

    A message of the assistant has a `weight` where the record says one (0: it is not trained).

    Raises:
        Unfit: when the assistant says nothing, or calls and results do not stand together, one such line being
            enough for a file to be refused.
    """
    steps = spoken(graded.trajectory.steps)
    if not _answered(steps):
        raise Unfit("a call without its result, or a result without its call")
    row: Row = {"messages": [message(step) for step in steps]}
    if tools := json.loads(graded.trajectory.tools):
        row["tools"] = tools
        row["parallel_tool_calls"] = any(len(step.tool_calls) > 1 for step in steps)
    return [row]


def spoken(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps up to the last of the assistant."""
    turns = [index for index, step in enumerate(steps) if step.role == "assistant"]
    if not turns:
        raise Unfit("the assistant says nothing")
    return steps[: turns[-1] + 1]


def _answered(steps: Sequence[Step]) -> bool:
    """Whether each call but those of the last step is answered right behind it, and nothing else is."""
    waiting: set[str | None] = set()
    for step in steps:
        if step.role == "tool":
            if step.tool_call_id not in waiting:
                return False
            waiting.remove(step.tool_call_id)
        elif waiting:
            return False
        else:
            waiting = {call.id for call in step.tool_calls}
    return True


def message(step: Step) -> dict[str, Any]:
    """A step as a message; the arguments of calls as the model wrote them."""
    said: dict[str, Any] = {"role": step.role, "content": step.content}
    if step.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in step.tool_calls
        ]
    else:
        said["content"] = step.content or ""
    if step.role == "tool" and step.tool_call_id is not None:
        said["tool_call_id"] = step.tool_call_id
    if (given := weight(step)) is not None:
        said["weight"] = given
    return said


def weight(step: Step) -> int | None:
    """Whether an assistant's step is trained, where its record says so (in Axolotl's words or OpenAI's): 1, or 0."""
    if step.role != "assistant" or not any(word in step.metadata for word in ('"weight"', '"training"')):
        return None
    about = msgspec.json.decode(step.metadata)
    given = about.get("weight", about.get("training"))
    return int(given) if given in (0, 1) else None


OPENAI = Format(name="openai", version="OpenAI chat fine-tuning, 2026", lost=LOST, rows=rows, read_by="openai-chat")
