"""Dialects: messages as providers and frameworks log them, as the chat messages that `chat.steps` reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Message = dict[str, Any]  # role, content, reasoning_content, tool_calls, tool_call_id, name
ROLES = {"ai": "assistant", "model": "assistant", "human": "user", "function": "tool"}
KNOWN = frozenset({"system", "developer", "user", "assistant", "tool"})
TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})
THOUGHTS = frozenset({"reasoning", "thinking"})
CALLS = frozenset({"tool_call", "tool-call", "tool_use", "function_call"})
RESULTS = frozenset({"tool_call_response", "tool-result", "tool_result", "function_call_output"})
# Keys of requests and responses under which their messages stand; those of OpenAI Responses, Vercel and others.
HELD = ("messages", "prompt", "input", "output")
# Any of these makes an object a message, or a part of one.
SPOKEN = frozenset(
    [
        "role",
        "type",
        "content",
        "text",
        "parts",
        "message",
        "tool_calls",
        "toolCallId",
        "function_call",
        "additional_kwargs",
    ]
)


def decoded(value: Any) -> Any:
    """What JSON text says, as often as it was written as text; other text as it is."""
    while isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value


def messages(value: Any, role: str = "user") -> list[Message]:
    """The messages of a request, a response, a list or a text; what names no role is of `role`.

    Reads OpenAI chat and Responses, Anthropic messages, OpenTelemetry GenAI parts, LangChain and Vercel AI SDK.
    Raises ValueError where there are none.
    """
    value = decoded(value)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        found: list[Message] = []
        for item in value:
            _append(found, _said(decoded(item), role), isinstance(item, dict) and "role" not in item)
        return found
    if not isinstance(value, dict):
        raise ValueError("there are no messages in it")
    if isinstance(choices := value.get("choices"), list) and choices:
        return messages([choices[0].get("message")], "assistant")
    if "role" not in value and "content" not in value:
        opening = value.get("system") or value.get("instructions")
        for key in HELD:
            if isinstance(value.get(key), str | list) and "toolCallId" not in value:
                # A response repeats the instructions of its request; they are said once, there.
                before = messages(opening, "system") if opening and key != "output" else []
                return before + messages(value[key], "assistant" if key == "output" else "user")
    if not SPOKEN & value.keys():  # what was asked for or given as an object: said as its text
        return [{"role": role, "content": as_text(value)}]
    return messages([value], role)


def tools(value: Any) -> list[dict[str, Any]]:
    """The tools that were offered, as OpenAI-style schemas."""
    found = []
    items = decoded(value)
    for item in items if isinstance(items, list) else []:
        tool = decoded(item)
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
            found.append({"type": "function", "function": tool["function"]})
        elif isinstance(tool, dict) and isinstance(tool.get("name"), str):
            given = next((v for k in ("parameters", "inputSchema", "input_schema") if (v := tool.get(k))), None)
            about = {"name": tool["name"], "description": tool.get("description"), "parameters": decoded(given)}
            found.append({"type": "function", "function": {k: v for k, v in about.items() if v is not None}})
    return found


def offered(value: Any) -> list[dict[str, Any]]:
    """The tools that stand among the messages, as LangChain logs them: of role tool, a schema for content."""
    value = decoded(value)
    return tools([item["content"] for item in value if _is_schema(item)]) if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """A result or arguments as text: as they are where they are text already."""
    if isinstance(value, dict) and "value" in value and value.get("type") in ("text", "json", "error-text"):
        value = value["value"]  # Vercel's wrapping of a result
    if isinstance(value, list) and value and all(isinstance(p, dict) and str(p.get("type")) in TEXTS for p in value):
        return "\n".join(str(part.get("text", "")) for part in value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _is_schema(item: Any) -> bool:
    content = item.get("content") if isinstance(item, dict) and item.get("role") == "tool" else None
    return isinstance(content, dict) and content.get("type") == "function" and "function" in content


def _append(found: list[Message], said: Iterable[Message], bare: bool) -> None:
    """Add messages; items without a role of their own (a thought, a call) go on with the assistant's message."""
    for message in said:
        last = found[-1] if found else None
        if bare and last and last["role"] == message["role"] == "assistant" and not last.get("content"):
            for key in ("tool_calls", "reasoning_content", "content"):
                if message.get(key):
                    last[key] = last[key] + message[key] if last.get(key) else message[key]
        else:
            found.append(message)


def _said(item: Any, role: str) -> list[Message]:
    """The messages that one element of a list stands for."""
    if isinstance(item, str):
        return [{"role": role, "content": item}]
    if isinstance(item, dict) and isinstance(item.get("message"), dict):
        item = item["message"]
    if not isinstance(item, dict):
        raise ValueError("a message is neither an object nor text")
    if _is_schema(item):
        return []
    kind = item.get("type") if isinstance(item.get("type"), str) else None
    if "role" not in item and (kind in CALLS | RESULTS | THOUGHTS | TEXTS or "toolCallId" in item):
        part = {**item, "type": kind if kind in CALLS | RESULTS | THOUGHTS | TEXTS else "tool-call"}
        return _of_parts(role if kind in TEXTS else "assistant", [part], {})
    named = str(item.get("role") or kind or role)
    named = ROLES.get(named, named)
    if named not in KNOWN:
        if "text" not in item or "role" in item:
            raise ValueError(f"a message of unknown role {named!r}")
        named = role
    kept: Message = {}
    extra = item.get("additional_kwargs")
    made = item.get("tool_calls") or (extra.get("tool_calls") if isinstance(extra, dict) else None)
    if calls := [_call(call) for call in _list(decoded(made))]:
        kept["tool_calls"] = calls
    if isinstance(old := item.get("function_call"), dict):
        kept["function_call"] = {"name": old.get("name"), "arguments": as_text(old.get("arguments", "{}"))}
    for key in ("reasoning_content", "reasoning", "tool_call_id", "name"):
        if isinstance(item.get(key), str):
            kept["reasoning_content" if key == "reasoning" else key] = item[key]
    if named == "tool" and "tool_call_id" not in kept and isinstance(item.get("id"), str):
        kept["tool_call_id"] = item["id"]  # as the older events of OpenTelemetry name it
    content = next((v for k in ("parts", "contents", "content", "text") if (v := item.get(k)) is not None), None)
    if content is None and "role" not in item and not kept:
        raise ValueError("a message has neither a role nor a content")
    if isinstance(content, list):
        return _of_parts(named, content, kept)
    return [{"role": named, "content": content if content is None else as_text(content), **kept}]


def _of_parts(role: str, parts: list[Any], kept: Message) -> list[Message]:
    """One message of its parts; results stand apart from it, before it, as messages of role tool."""
    texts: list[str] = []
    others: list[Any] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for raw in parts:
        part: Any = {"type": "text", "text": raw} if isinstance(raw, str) else raw
        if not isinstance(part, dict) or not isinstance(part := part.get("message_content", part), dict):
            raise ValueError("a part of a message is neither an object nor text")
        kind = part.get("type") if isinstance(part.get("type"), str) else None
        if kind in TEXTS or (kind is None and isinstance(part.get("text"), str)):
            texts.append(as_text(_first(part, "text", "content", "refusal") or ""))
        elif kind in THOUGHTS:
            thought = _first(part, "thinking", "text", "content", "summary")
            thoughts += [as_text(thought)] if thought else []
        elif kind in CALLS:
            calls.append(_call(part))
        elif kind in RESULTS:
            result = {"role": "tool", "content": as_text(_first(part, "response", "result", "output", "content"))}
            if id := _first(part, "toolCallId", "tool_use_id", "call_id", "id"):
                result["tool_call_id"] = str(id)
            results.append(result)
        else:
            others.append(part)
    if results and not (texts or others or thoughts or calls):
        return results
    content: Any = "\n".join(texts) if texts else None
    if others:
        content = [*({"type": "text", "text": text} for text in texts), *others]
    message: Message = {"role": role, "content": content, **kept}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = kept.get("tool_calls", []) + calls
    return [*results, message]


def _call(raw: Any) -> dict[str, Any]:
    """A call in the shape of OpenAI chat."""
    if not isinstance(raw, dict):
        raise ValueError("a tool call is not an object")
    call = raw.get("tool_call", raw)
    function = call["function"] if isinstance(call.get("function"), dict) else call
    name = _first(function, "name", "toolName")
    if not isinstance(name, str):
        raise ValueError("a tool call has no name")
    arguments = _first(function, "arguments", "args", "input")
    id = _first(call, "toolCallId", "call_id", "id")
    id = id if id is None else str(id)
    return {"id": id, "function": {"name": name, "arguments": "{}" if arguments is None else as_text(arguments)}}


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ValueError("the tool calls of a message are not a list")
    return value or []


def _first(item: dict[str, Any], *keys: str) -> Any:
    """The first of an object's members that is there."""
    return next((item[key] for key in keys if item.get(key) is not None), None)
