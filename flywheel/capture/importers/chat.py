"""Chat messages as the OpenAI API writes them, as steps: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from flywheel.capture.importers.calls import Calls
from flywheel.schema import EndState, Role, Step, ToolCall, stable_id

ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}
# Keys under which logs carry the answer or the verdict: they stay out of what is stored beside a step.
REFERENCES = frozenset(
    {"answer", "answers", "expected", "gold", "ground_truth", "label", "reference", "reward", "solution", "target"}
)


class Function(msgspec.Struct):
    """What was called; arguments as JSON text, or as an object in some logs."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class Call(msgspec.Struct):
    """One element of `tool_calls`."""

    function: Function
    id: str | None = None


class Message(msgspec.Struct):
    """One message, today's and yesterday's fields."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    tool_call_id: str | None = None
    name: str | None = None
    is_error: bool | None = None  # as Anthropic marks a result


def steps(messages: Sequence[dict[str, Any]], *, errors: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """The steps of a conversation; a tool result that begins with one of `errors` is an error.

    Fields without a place in a step go to its metadata. Raises ValueError where a message is malformed.
    """
    calls = Calls()
    return tuple(_step(raw, msgspec.convert(raw, Message), calls, errors) for raw in messages)


def _step(raw: dict[str, Any], message: Message, calls: Calls, errors: tuple[str, ...]) -> Step:
    about = {k: v for k, v in raw.items() if k not in Message.__struct_fields__ and k not in REFERENCES}
    role = ROLES.get(message.role, message.role)
    if message.role in ROLES:
        about["role"] = message.role
    content = message.content
    if isinstance(content, list):
        if any(part.get("type") != "text" for part in content):
            about["parts"] = content
        content = "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    call_id = tool_name = is_error = None
    if role == "tool":
        call_id, tool_name = calls.answered(message.tool_call_id, message.name)
        is_error = (content or "").startswith(errors) if errors else message.is_error
    elif message.name:
        about["name"] = message.name
    return Step(
        role=role,  # type: ignore[arg-type]  # the literal of `Message` and `ROLES` make it one
        content=content,
        reasoning=message.reasoning_content or message.reasoning,
        tool_calls=_calls(message, calls),
        tool_call_id=call_id,
        tool_name=tool_name,
        is_error=is_error,
        metadata=msgspec.json.encode({k: v for k, v in about.items() if v is not None}, order="sorted").decode(),
    )


def _calls(message: Message, calls: Calls) -> tuple[ToolCall, ...]:
    made = [(call.id, call.function) for call in message.tool_calls or ()]
    if message.function_call:
        made.append((None, message.function_call))
    return tuple(calls.made(id, function.name, as_text(function.arguments)) for id, function in made)


def opening(steps: Sequence[Step]) -> str:
    """The task of a conversation that names none, by how it opens: equal openings stay together in a split."""
    opens = [step.content or "" for step in steps if step.role in ("system", "user")][:2]
    return f"opening-{stable_id(*opens)[:12]}"


def end_state(steps: Sequence[Step]) -> EndState:
    """A conversation is whole when the assistant had the last word, and called nothing that was not answered."""
    return "completed" if steps and steps[-1].role == "assistant" and not steps[-1].tool_calls else "partial"


def function(raw: dict[str, Any]) -> dict[str, Any]:
    """A tool's schema as the OpenAI API has it, from that or from the bare function."""
    return raw if raw.get("type") == "function" else {"type": "function", "function": raw}


def as_text(arguments: str | dict[str, Any]) -> str:
    """Arguments as JSON text: as they are where they are text already."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
