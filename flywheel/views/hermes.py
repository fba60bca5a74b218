"""Hermes: records as the batch runner of NousResearch/hermes-agent writes them (its `agent/trajectory.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flywheel.schema import Step, ToolCall
from flywheel.views import trl
from flywheel.views.graded import ORIGIN, Format, Graded, Row, Unfit

SYSTEM = """\
You can call functions. Their signatures stand between the tags, as a JSON list:
<tools>
{}
</tools>
Write each call as a JSON object with "name" and "arguments" between <tool_call> and </tool_call>. What a call gave \
stands between <tool_response> and </tool_response>."""

LOST = {
    **ORIGIN,
    "task_id": "a name made of the first question; kept in `metadata`",
    "task_group": "as the task",
    "task_type": "`hermes`",
    "agent": "`hermes-agent`",
    "agent_version": "no place for it",
    "provider": "no place for it",
    "tools": "name, description and parameters; those that the system prompt lists already stay as they stand there",
    "verdict": "that a run was completed is no verdict; kept in `metadata`",
    "steps": "a system prompt is made where there is none; results stand in the order of their calls",
    "steps.content": "the system prompt goes on with the tools; white space around what the assistant says is lost; "
    "results that are JSON are printed anew when they are read; none is empty text; tags in a text "
    "are read as what they say; a first question that is also the last is taken for a lost one",
    "steps.reasoning": "blank thoughts are none",
    "steps.tool_calls.id": "that of its result, by position; one without a result is numbered",
    "steps.tool_calls.arguments": "JSON objects, printed anew when they are read; other text is an empty object",
    "steps.tool_call_id": "a result without one gets that of the call at its position",
    "steps.tool_name": "that of the call at its position",
    "steps.is_error": "judged anew, as the agent's own statistics judge it",
    "steps.metadata": "no place for it: token ids, log-probabilities, finish reasons, parts of pictures",
}


def rows(graded: Graded, number: int) -> list[Row]:
    """One record; where its `metadata` has more than the runner's three members, they say whose the record is.

    Raises:
        Unfit: when the assistant says nothing.
    """
    of = graded.trajectory
    if not any(step.role == "assistant" for step in of.steps):
        raise Unfit("the assistant says nothing")
    offered = [_tool(tool) for tool in json.loads(of.tools)]
    turns = list(_turns(of.steps, offered))
    stats = _statistics(of.steps, [tool["name"] for tool in offered])
    metadata = json.loads(of.metadata)
    toolsets = metadata.get("toolsets_used")
    row: Row = {
        "prompt_index": number,
        "conversations": turns,
        "metadata": {
            "batch_num": 0,
            "timestamp": (of.started_at or of.arrived_at).isoformat(),
            "model": of.model,
            "trajectory_id": of.id,
            "task_id": of.task_id,
            "reward": graded.reward,
            "success": graded.success,
        },
        "completed": of.end_state == "completed",
        "partial": of.end_state == "partial",
        "api_calls": sum(step.role == "assistant" for step in of.steps),
        "toolsets_used": [name for name in toolsets if isinstance(name, str)] if isinstance(toolsets, list) else [],
        "tool_stats": stats,
        "tool_error_counts": {name: counts["failure"] for name, counts in stats.items()},
    }
    return [row | ({"compression_metrics": graded.compression} if graded.compression else {})]


def failed(content: str | None) -> bool:
    """Whether a result is a failure, by the rule of the agent's statistics; an exit code is none."""
    text = (content or "").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return not text or text.lower().startswith("error:")
    if not isinstance(value, dict):
        return False
    inner = value.get("content")
    parts = [value, *([inner] if isinstance(inner, dict) else [])]
    return any(part.get("error") is not None for part in parts) or value.get("success") is False


def _turns(steps: Sequence[Step], offered: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not steps or steps[0].role != "system":
        yield {"from": "system", "value": _prompt("", offered)}
    calls: tuple[ToolCall, ...] = ()
    at = 0
    while at < len(steps):
        step = steps[at]
        at += 1
        if step.role == "tool":
            results = [step]
            while at < len(steps) and steps[at].role == "tool":
                results.append(steps[at])
                at += 1
            yield {"from": "tool", "value": "\n".join(_results(results, calls))}
            calls = ()
        elif step.role == "assistant":
            calls = step.tool_calls
            yield {"from": "gpt", "value": _said(step)}
        else:
            text = _prompt(step.content or "", offered) if at == 1 and step.role == "system" else step.content
            yield {"from": "human" if step.role == "user" else "system", "value": text}


def _prompt(text: str, offered: list[dict[str, Any]]) -> str:
    """A system prompt that lists the tools; one that does already stays as it is."""
    if "<tools>" in text:
        return text
    return "\n\n".join(part for part in (text, SYSTEM.format(json.dumps(offered, ensure_ascii=False))) if part)


def _said(step: Step) -> str:
    value = f"<think>\n{step.reasoning}\n</think>\n" if step.reasoning and step.reasoning.strip() else ""
    content = (step.content or "").replace("REASONING_SCRATCHPAD>", "think>")
    if step.tool_calls:
        value += f"{content}\n" if content.strip() else ""
        for call in step.tool_calls:
            arguments = trl.object_of(call.arguments)
            said = {"name": call.name, "arguments": arguments if isinstance(arguments, dict) else {}}
            value += f"<tool_call>\n{json.dumps(said, ensure_ascii=False)}\n</tool_call>\n"
    else:
        value += content
    if "<think>" not in value:
        value = f"<think>\n</think>\n{value}"
    return value.rstrip() if step.tool_calls else value.strip()


def _results(results: list[Step], calls: tuple[ToolCall, ...]) -> Iterator[str]:
    """Results in the order of their calls, since their places are what readers go by."""
    order = {call.id: place for place, call in enumerate(calls)}
    ranked = sorted(results, key=lambda result: order.get(result.tool_call_id or "", len(order)))
    for place, result in enumerate(ranked):
        said = {
            "tool_call_id": result.tool_call_id or "",
            "name": calls[place].name if place < len(calls) else "unknown",
            "content": _content(result.content or ""),
        }
        yield f"<tool_response>\n{json.dumps(said, ensure_ascii=False)}\n</tool_response>"


def _content(text: str) -> Any:
    if not text.strip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _tool(raw: dict[str, Any]) -> dict[str, Any]:
    function = raw.get("function", raw)
    return {
        "name": function.get("name", ""),
        "description": function.get("description", ""),
        "parameters": function.get("parameters", {}),
        "required": None,
    }


def _statistics(steps: Sequence[Step], known: list[str]) -> dict[str, dict[str, int]]:
    """How often each tool was called, and how often its result was a failure; zeros for those never called."""
    stats = {name: {"count": 0, "success": 0, "failure": 0} for name in known}
    for step in steps:
        for call in step.tool_calls:
            stats.setdefault(call.name, {"count": 0, "success": 0, "failure": 0})["count"] += 1
        if step.role == "tool" and step.tool_name:
            counts = stats.setdefault(step.tool_name, {"count": 0, "success": 0, "failure": 0})
            counts["failure" if failed(step.content) else "success"] += 1
    return stats


HERMES = Format(name="hermes", version="hermes-agent batch_runner 007bb6c", lost=LOST, rows=rows, read_by="hermes")
