"""OpenAI responses: https://platform.openai.com/docs/api-reference/responses, and its stream of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flywheel.capture.gateway import interface
from flywheel.capture.gateway.interface import Answered, Asked, count, kept, objects, text
from flywheel.capture.gateway.remembered import REFERENCE
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import dialects, halves
from flywheel.capture.importers.dialects import Message

NAME: str = "responses"
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
# Tools that the model knows without being told of them, and that the client runs: what each is asked.
KNOWN = {
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "computer_call": "action",
}
RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
# Under which member an event's delta goes on, in an item or in a part of one.
DELTAS = {
    "response.output_text.delta": ("content", "output_text"),
    "response.refusal.delta": ("content", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text"),
}
WRITTEN = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}


def asked(body: dict[str, Any]) -> Asked:
    """What a request asks. The messages of an earlier response that it goes on from are not in it."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given if isinstance(given, list) else []
    opening = body.get("instructions")
    opening = [{"role": "system", "content": opening}] if isinstance(opening, str) and opening else objects(opening)
    instructions = _messages(opening)
    return Asked(
        messages=interface.readable(instructions + _messages(items)),
        instructions=len(instructions),
        tools=[_tool(tool) for tool in objects(body.get("tools"))],
        model=text(body.get("model")),
        parameters=kept(body, "input", "instructions", "tools", "model", "previous_response_id", "conversation"),
        about=kept(
            {
                "previous_response_id": body.get("previous_response_id"),
                "conversation": body.get("conversation"),
                # Items of earlier answers that nothing is known of here.
                "item_references": [i.get("id") for i in objects(items) if i.get("type") == REFERENCE] or None,
            }
        ),
    )


def conversation(asked: Asked) -> str:
    """The id of the conversation that a request is part of; empty where it is of none."""
    named = asked.about.get("conversation")
    return text(named.get("id") if isinstance(named, dict) else named)


def before(asked: Asked) -> str:
    """The id of what a request goes on from: a response or a conversation; empty where it goes on from none."""
    return text(asked.about.get("previous_response_id")) or conversation(asked)


def after(asked: Asked, before: list[Message]) -> Asked:
    """A request with what was said before it; its instructions hold for it alone, and come first."""
    at = asked.instructions
    return msgspec.structs.replace(asked, messages=[*asked.messages[:at], *before, *asked.messages[at:]])


def answered(body: dict[str, Any]) -> Answered:
    """What an answer says: all items of its output are one message."""
    usage = interface.within(body, "usage")
    status = body.get("status")
    error = interface.failure(body) if body.get("error") or status == "failed" else ""
    incomplete = body.get("incomplete_details")
    reason = incomplete.get("reason") if isinstance(incomplete, dict) else None
    details = {
        "response_id": body.get("id"),
        "finish_reason": reason or status,
        "usage": usage or None,
        "service_tier": body.get("service_tier"),
        **_beside(objects(body.get("output"))),
    }
    said = interface.readable(_messages(objects(body.get("output")), answer=True))
    return Answered(
        answers=[said] if said else [],
        details=[kept(details)] if said else [],
        id=text(body.get("id")),
        model=text(body.get("model")),
        prompt_tokens=count(usage.get("input_tokens")),
        completion_tokens=count(usage.get("output_tokens")),
        state="failed" if error else "partial" if status in ("queued", "in_progress", "cancelled") else "completed",
        error=error,
        items={item["id"]: item for item in objects(body.get("output")) if text(item.get("id"))},
    )


def stream() -> Stream:
    """An answer that will come in events."""
    return Stream()


class Stream:
    """Events of a response, put together as the whole that would have come without a stream."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._whole = False

    def take(self, event: Event) -> bool:
        """Take in an event."""
        said = interface.piece(event.data)
        if not isinstance(said, dict):
            return False
        kind = text(said.get("type")) or event.type.decode("utf-8", "replace")
        at = count(said.get("output_index")) or 0
        if isinstance(said.get("response"), dict):
            self._body = said["response"]
            self._whole = kind in ENDS
        elif kind in ("response.output_item.added", "response.output_item.done") and isinstance(said.get("item"), dict):
            self._items[at] = dict(said["item"])
        elif kind in DELTAS:
            self._part(at, said, *DELTAS[kind])
        elif kind in WRITTEN:
            item = self._items.setdefault(at, {"type": "function_call"})
            item[WRITTEN[kind]] = text(item.get(WRITTEN[kind])) + text(said.get("delta"))
        elif kind == "error":
            self._body = {**self._body, "error": said.get("error") or said}
        return kind in ENDS

    def answered(self) -> Answered:
        """What has come so far; the last event tells all once more."""
        items = [self._items[at] for at in sorted(self._items)]
        said = answered(halves.joined({**self._body, "output": self._body.get("output") or items}))
        return said if self._whole or said.error else interface.partial(said)

    def _part(self, at: int, said: dict[str, Any], member: str, kind: str) -> None:
        item = self._items.setdefault(at, {"type": "message" if kind != "reasoning_text" else "reasoning"})
        if not isinstance(item.get(member), list):
            item[member] = []  # vLLM says null while there is nothing
        parts: list[Any] = item[member]
        number = count(said.get("content_index" if member == "content" else "summary_index")) or 0
        if number == len(parts):
            parts.append({"type": kind})
        if 0 <= number < len(parts) and isinstance(part := parts[number], dict):
            held = "refusal" if kind == "refusal" else "text"
            part[held] = text(part.get(held)) + text(said.get("delta"))


def _messages(items: Iterable[Any], *, answer: bool = False) -> list[Message]:
    """Chat messages of items. What the model wrote without a break is one message: thoughts, words, and calls."""
    found: list[Message] = []
    for item in items:
        if not isinstance(item, dict):
            found.append({"role": "user", "content": item})
            continue
        kind = str(item.get("type") or "message")
        if kind in RESULTS:
            output = item.get("output")
            output = interface.joined(output) if isinstance(output, list) else output
            said = output if output is None or isinstance(output, list) else dialects.as_text(output)
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": said})
        elif kind == "message" and (answer or item.get("role") == "assistant"):
            _say(_turn(found), item.get("content"))
        elif kind == "message":
            content = item.get("content")
            said = interface.joined(content) if isinstance(content, list) else content
            found.append({"role": item.get("role") or "user", "content": said})
        elif kind in CALLS:
            function = {"name": text(item.get("name")), "arguments": dialects.as_text(item.get(CALLS[kind]) or "")}
            _turn(found).setdefault("tool_calls", []).append({"id": item.get("call_id"), "function": function})
        elif kind == "reasoning":
            thoughts = [text(p.get("text")) for m in ("summary", "content") for p in objects(item.get(m))]
            turn = _turn(found)
            if thoughts := [thought for thought in thoughts if thought]:
                turn["reasoning_content"] = "\n".join([*filter(None, [turn.get("reasoning_content")]), *thoughts])
        elif kind.endswith("_output"):
            output = item.get("output")
            said = [item] if kind == "computer_call_output" or output is None else dialects.as_text(output)
            found.append({"role": "tool", "tool_call_id": item.get("call_id") or item.get("id"), "content": said})
        elif kind == REFERENCE:
            continue
        else:  # the server's own tools: searches, files, code, pictures
            turn = _turn(found)
            turn.setdefault("items", []).append(item)
            if kind in KNOWN:
                function = {
                    "name": kind.removesuffix("_call"),
                    "arguments": dialects.as_text(item.get(KNOWN[kind]) or {}),
                }
                turn.setdefault("tool_calls", []).append({"id": item.get("call_id"), "function": function})
    return found


def _turn(found: list[Message]) -> Message:
    """The message of the model that is being put together; a new one where somebody else spoke last."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": None})
    return found[-1]


def _say(turn: Message, content: Any) -> None:
    if isinstance(content, list):
        refusals = [text(part.get("refusal")) for part in objects(content) if part.get("type") == "refusal"]
        if refusals:
            turn["refusal"] = "\n".join(refusals)
        content = interface.joined([_plain(p) for p in content if not (isinstance(p, dict) and "refusal" in p)])
    if turn["content"] and content:
        same = isinstance(turn["content"], str) and isinstance(content, str)
        turn["content"] = f"{turn['content']}\n{content}" if same else [*_parts(turn["content"]), *_parts(content)]
    elif content:
        turn["content"] = content


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _plain(part: Any) -> Any:
    """A part without what stands beside its text: that is told with the answer, and not repeated by clients."""
    if isinstance(part, dict) and part.get("type") == "output_text":
        return {"type": "output_text", "text": text(part.get("text"))}
    return part


def _beside(output: list[dict[str, Any]]) -> dict[str, Any]:
    """What stands beside the text of an answer: citations, log-probabilities, and thoughts that are sealed."""
    parts = [part for item in output for part in objects(item.get("content"))]
    return {
        "annotations": [note for part in parts for note in objects(part.get("annotations"))] or None,
        "logprobs": [token for part in parts for token in objects(part.get("logprobs"))] or None,
        "encrypted_reasoning": [i["encrypted_content"] for i in output if text(i.get("encrypted_content"))] or None,
    }


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in the style of OpenAI chat; the server's own tools keep what describes them."""
    if tool.get("type") in ("function", "custom"):
        return {"type": tool["type"], "function": kept(tool, "type")}
    return {"type": text(tool.get("type")), "function": {"name": text(tool.get("type")), **kept(tool, "type")}}
