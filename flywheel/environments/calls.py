"""Tool calls as an environment receives them: checked against the tool's schema, then carried out on a world."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from flywheel.schema import Step, ToolCall

UNKNOWN_TOOL = "Error: unknown tool."
WRONG_ARGUMENTS = "Error: wrong arguments."
NOTHING_THERE = "Error: nothing there."
ALREADY_DONE = "Error: already done."
ERRORS = (UNKNOWN_TOOL, WRONG_ARGUMENTS, NOTHING_THERE, ALREADY_DONE)

# A world is flat: names of facts and their values. That makes a fork a dict's copy, and a digest one line.
World = dict[str, str]


class CallError(Exception):
    """A call that the world cannot carry out; its text is the tool's answer."""


class Answer(NamedTuple):
    """What a tool says, and the facts of the world that it thereby shows."""

    text: str
    shown: tuple[str, ...] = ()


Handler = Callable[[World, dict[str, str]], Answer]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A call that a script means to make: a tool and its arguments, in the order of the tool's schema."""

    name: str
    arguments: dict[str, str]

    def filled(self, names: Mapping[str, str]) -> Call:
        """The call with the names of a task in the place of `{...}`."""
        return Call(self.name, {key: value.format_map(names) for key, value in self.arguments.items()})


def tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    """An OpenAI-style function schema whose parameters are strings, all of them required."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": "string", "description": text} for key, text in parameters.items()},
                "required": list(parameters),
                "additionalProperties": False,
            },
        },
    }


def parameters_of(tools: Iterable[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The names of each tool's parameters, by tool, in the order of its schema."""
    return {t["function"]["name"]: tuple(t["function"]["parameters"]["properties"]) for t in tools}


def checked(call: ToolCall, parameters: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The arguments of a call.

    Raises:
        CallError: when the tool is unknown, or the arguments are not a JSON object of exactly its parameters.
    """
    if call.name not in parameters:
        raise CallError(UNKNOWN_TOOL)
    try:
        arguments = json.loads(call.arguments)
        # An escaped half of a surrogate pair is JSON, but no text that could be stored.
        json.dumps(arguments, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise CallError(WRONG_ARGUMENTS) from error
    if not isinstance(arguments, dict) or arguments.keys() != set(parameters[call.name]):
        raise CallError(WRONG_ARGUMENTS)
    if not all(isinstance(value, str) for value in arguments.values()):
        raise CallError(WRONG_ARGUMENTS)
    return arguments


def tool_step(call: ToolCall, text: str, *, is_error: bool) -> Step:
    """The answer to a call."""
    return Step(role="tool", content=text, tool_call_id=call.id, tool_name=call.name, is_error=is_error)


def calling(*calls: Call) -> Step:
    """The assistant step that makes these calls."""
    return Step(
        role="assistant",
        tool_calls=tuple(
            ToolCall(id=f"call_{i}", name=c.name, arguments=json.dumps(c.arguments)) for i, c in enumerate(calls)
        ),
    )


def saying(text: str) -> Step:
    """The assistant step that ends an episode with a message to the user."""
    return Step(role="assistant", content=text)
