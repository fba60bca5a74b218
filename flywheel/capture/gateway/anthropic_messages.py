"""Anthropic messages: https://docs.anthropic.com/en/api/messages, and its stream of events."""

from __future__ import annotations

from typing import Any

from flywheel.capture.gateway import interface
from flywheel.capture.gateway.interface import Answered, Asked, count, kept, objects, text
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import blocks, dialects, halves
from flywheel.capture.importers.dialects import Message

NAME: str = "messages"
# Claude Code opens its system prompt with this line of its own; it is another one in every request.
BILLING = "x-anthropic-billing-header:"
TEXT = frozenset({"text"})


def asked(body: dict[str, Any]) -> Asked:
    """What a request asks."""
    messages, about = _system(body.get("system"))
    for message in objects(body.get("messages")):
        messages += _answer(message) if message.get("role") == "assistant" else _given(message)
    return Asked(
        messages=interface.readable(messages),
        tools=[_tool(tool) for tool in objects(body.get("tools"))],
        model=text(body.get("model")),
        parameters=kept(body, "messages", "system", "tools", "model"),
        about=about,
    )


def answered(body: dict[str, Any]) -> Answered:
    """What an answer says."""
    usage = interface.within(body, "usage")
    counts = blocks.Usage(**{field: count(usage.get(field)) for field in blocks.Usage.__struct_fields__})
    error = interface.failure(body) if body.get("error") else ""
    content = objects(body.get("content"))
    details = kept(body, "id", "type", "role", "content", "model", "stop_reason", "error")
    details |= {"response_id": body.get("id"), "finish_reason": body.get("stop_reason")}
    details["citations"] = [block["citations"] for block in content if block.get("citations")] or None
    said = interface.readable(_answer({"role": "assistant", "content": content})) if content or not error else []
    return Answered(
        answers=[said] if said else [],
        details=[kept(details)] if said else [],
        id=text(body.get("id")),
        model=text(body.get("model")),
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.output_tokens,
        state="failed" if error else "completed",
        error=error,
    )


def stream() -> Stream:
    """An answer that will come in events."""
    return Stream()


class Stream:
    """Events of a message, put together as the whole that would have come without a stream."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}
        self._whole = False

    def take(self, event: Event) -> bool:
        """Take in an event."""
        said = interface.piece(event.data)
        if not isinstance(said, dict):
            return False
        kind = said.get("type") or event.type.decode("utf-8", "replace")
        if kind == "message_start" and isinstance(said.get("message"), dict):
            self._body = {**said["message"], "usage": dict(interface.within(said["message"], "usage"))}
        elif kind == "content_block_start" and isinstance(said.get("content_block"), dict):
            self._blocks[_index(said)] = dict(said["content_block"])
        elif kind == "content_block_delta" and isinstance(said.get("delta"), dict):
            self._delta(_index(said), said["delta"])
        elif kind == "message_delta":
            usage = {**interface.within(self._body, "usage"), **kept(interface.within(said, "usage"))}
            self._body |= {**kept(interface.within(said, "delta")), "usage": usage}
        elif kind == "error":
            self._body["error"] = said.get("error") or said
        elif kind == "message_stop":
            self._whole = True
        return kind in ("message_stop", "error")

    def answered(self) -> Answered:
        """What has come so far. Arguments are the text that the model wrote, also where it broke off."""
        for index, written in self._inputs.items():
            block = self._blocks[index]
            # What the server's own tools were asked stays a part of the message, in the form that clients repeat.
            block["input"] = written if block.get("type") == "tool_use" else dialects.decoded(written) or {}
        content = [self._blocks[index] for index in sorted(self._blocks)]
        said = answered(halves.joined({**self._body, "content": content}))
        return said if self._whole or said.error else interface.partial(said)

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks.setdefault(index, {"type": "text"})
        match delta.get("type"):
            case "text_delta":
                block["text"] = text(block.get("text")) + text(delta.get("text"))
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + text(delta.get("partial_json"))
            case "thinking_delta":
                block["thinking"] = text(block.get("thinking")) + text(delta.get("thinking"))
            case "signature_delta":
                block["signature"] = text(block.get("signature")) + text(delta.get("signature"))
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
            case _:
                block.setdefault("deltas", []).append(delta)


def _index(said: dict[str, Any]) -> int:
    return count(said.get("index")) or 0


def _system(system: Any) -> tuple[list[Message], dict[str, Any]]:
    given = [{"type": "text", "text": system}] if isinstance(system, str) else objects(system)
    about: dict[str, Any] = {}
    said = []
    for block in given:
        words = text(block.get("text"))
        if words.startswith(BILLING):
            about["billing_header"], _, words = words.partition("\n")
            if not words:
                continue
            block = {**block, "text": words}
        said.append(block)
    return [{"role": "system", "content": interface.joined(said, TEXT)}] if said else [], about


def _given(message: dict[str, Any]) -> list[Message]:
    """What the model was given: each result of a tool a message of its own, in order with what stands between them."""
    role, content = message.get("role"), message.get("content")
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    found: list[Message] = []
    run: list[Any] = []
    for block in content:
        if not isinstance(block, dict) or block.get("type") != "tool_result":
            run.append(block)
            continue
        if run:
            found.append({"role": role, "content": interface.joined(run, TEXT)})
            run = []
        result = block.get("content")
        said = interface.joined(result, TEXT) if isinstance(result, list) else result
        result = {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": said}
        found.append(result | ({"is_error": block["is_error"]} if "is_error" in block else {}))
    if run or not content:
        found.append({"role": role, "content": interface.joined(run, TEXT)})
    return found


def _answer(message: dict[str, Any]) -> list[Message]:
    """What the model wrote, as one message."""
    content = message.get("content")
    if not isinstance(content, list):
        return [{"role": "assistant", "content": content}]
    said: list[Any] = []
    thoughts: list[str] = []
    signatures: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "thinking":
            thoughts.append(text(block.get("thinking")))
            signatures.append(text(block.get("signature")))
        elif kind == "tool_use":
            written = block.get("input")
            arguments = dialects.as_text({} if written is None or written == "" else written)
            calls.append({"id": block.get("id"), "function": {"name": text(block.get("name")), "arguments": arguments}})
        else:
            said.append({k: v for k, v in block.items() if k != "citations"} if kind == "text" else block)
    answer: Message = {"role": "assistant", "content": interface.joined(said, TEXT)}
    if any(thoughts):
        answer["reasoning_content"] = "\n".join(thought for thought in thoughts if thought)
    if any(signatures):
        answer["signatures"] = signatures
    if calls:
        answer["tool_calls"] = calls
    return [answer]


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in the style of OpenAI; the server's own tools have a type and no schema, and keep their type."""
    function = kept(tool, "input_schema", "cache_control")
    return {"type": "function", "function": function | {"parameters": tool.get("input_schema") or {"type": "object"}}}
