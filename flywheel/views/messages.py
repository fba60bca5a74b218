"""Steps as chat messages (as chat templates and the OpenAI API read them), and model text as steps."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.schema import Step, ToolCall

# Hermes function calling: one JSON object a call, between the tags that Qwen and others are trained on.
TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
THINK = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)


def to_messages(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Chat messages for a chat template: arguments as objects where they parse, as text where they do not."""
    return [_message(step) for step in steps]


def _message(step: Step) -> dict[str, Any]:
    message: dict[str, Any] = {"role": step.role, "content": step.content or ""}
    if step.reasoning is not None:
        message["reasoning_content"] = step.reasoning
    if step.tool_calls:
        message["tool_calls"] = [
            {
                "type": "function",
                "id": c.id,
                "function": {"name": c.name, "arguments": _arguments(c.arguments)},
            }
            for c in step.tool_calls
        ]
    if step.role == "tool":
        if step.tool_call_id is not None:
            message["tool_call_id"] = step.tool_call_id
        if step.tool_name is not None:
            message["name"] = step.tool_name
    return message


def _arguments(text: str) -> Any:
    try:
        value = json.loads(text)
        msgspec.json.encode(value)  # raises for what could not be written again, such as half a character
    except (ValueError, RecursionError):
        return text
    return value


def parse_assistant(text: str) -> Step:
    """The assistant step that a model wrote as text: `<think>`, then content, then `<tool_call>` blocks.

    A block that is not a JSON object with a name stays in the content: what a model said is never dropped.
    """
    reasoning = None
    if thought := THINK.match(text):
        reasoning = thought.group(1).strip() or None
        text = text[thought.end() :]
    calls: list[ToolCall] = []

    def take(block: re.Match[str]) -> str:
        try:
            call = json.loads(block.group(1))
            name, arguments = call["name"], call.get("arguments", {})
        except (ValueError, TypeError, KeyError, AttributeError):
            return block.group(0)
        if not isinstance(name, str):
            return block.group(0)
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append(ToolCall(id=f"call_{len(calls)}", name=name, arguments=written))
        return ""

    content = TOOL_CALL.sub(take, text).strip()
    return Step(role="assistant", content=content or None, reasoning=reasoning, tool_calls=tuple(calls))
