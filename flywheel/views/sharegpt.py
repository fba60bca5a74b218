"""ShareGPT: conversations of `from` and `value`, with calls and tools as LLaMA-Factory and others read them."""

from __future__ import annotations

import json
from typing import Any

from flywheel.schema import Step
from flywheel.views import trl
from flywheel.views.graded import ORIGIN, Format, Graded, Row, about

SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}

LOST = {
    **ORIGIN,
    "task_group": "as the task",
    "agent": "the model, or unknown",
    "agent_version": "beside the turns, where few look",
    "provider": "beside the turns, where few look",
    "end_state": "as the last turn tells",
    "tools": "each in the style of OpenAI",
    "steps": "one that speaks and calls is two turns, and an empty one between calls none",
    "steps.content": "empty text beside calls is none",
    "steps.reasoning": "beside the turn as `reasoning_content`, where few look; an empty thought is none",
    "steps.tool_calls.id": "calls are told apart by their order",
    "steps.tool_calls.arguments": "JSON objects, printed anew when they are read; other text stays as it is",
    "steps.tool_call_id": "a result answers the first call that waits",
    "steps.tool_name": "that of the call",
    "steps.is_error": "no place for it",
    "steps.metadata": "no place for it: token ids, log-probabilities, finish reasons, parts of pictures",
}


def rows(graded: Graded, _number: int) -> list[Row]:
    """`conversations` and `tools` (JSON text), with what is known of the task beside."""
    turns = [turn for step in graded.trajectory.steps for turn in _turns(step)]
    return [{"conversations": turns, "tools": graded.trajectory.tools} | about(graded)]


def _turns(step: Step) -> list[dict[str, Any]]:
    thoughts = {"reasoning_content": step.reasoning} if step.reasoning is not None else {}
    turns: list[dict[str, Any]] = []
    if step.content or not step.tool_calls:
        turns.append({"from": SPEAKERS[step.role], "value": step.content, **thoughts})
        thoughts = {}
    if step.tool_calls:
        calls = [{"name": call.name, "arguments": trl.object_of(call.arguments)} for call in step.tool_calls]
        value = json.dumps(calls if len(calls) > 1 else calls[0], ensure_ascii=False)
        turns.append({"from": "function_call", "value": value, **thoughts})
    return turns


SHAREGPT = Format(name="sharegpt", version="ShareGPT with function_call", lost=LOST, rows=rows, read_by="sharegpt")
