"""OpenAI chat completions, and what vLLM, SGLang, Ollama and others add: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from typing import Any

from flywheel.capture.gateway import interface
from flywheel.capture.gateway.deltas import Calls, merge
from flywheel.capture.gateway.interface import Answered, Asked, count, kept, objects, text
from flywheel.capture.gateway.sse import Event
from flywheel.capture.importers import chat, dialects, halves
from flywheel.capture.importers.dialects import Message

NAME: str = "chat.completions"
DONE = b"[DONE]"
# What others call token ids and log-probabilities, by the names under which redaction looks for them.
TOKENS = {
    "output_token_ids": "token_ids",
    "response_token_ids": "token_ids",
    "output_ids": "token_ids",
    "input_token_ids": "prompt_token_ids",
    "input_ids": "prompt_token_ids",
    "output_token_logprobs": "logprobs",
    "input_token_logprobs": "prompt_logprobs",
}


def asked(body: dict[str, Any]) -> Asked:
    """What a request asks."""
    tools = [chat.function(t) for t in objects(body.get("functions"))] + [_tool(t) for t in objects(body.get("tools"))]
    return Asked(
        messages=interface.readable([_message(m) for m in objects(body.get("messages"))]),
        tools=tools,
        model=text(body.get("model")),
        parameters=kept(body, "messages", "tools", "functions", "model"),
    )


def answered(body: dict[str, Any]) -> Answered:
    """What an answer says: one for each choice, in the order of their indexes."""
    choices = sorted(objects(body.get("choices")), key=lambda choice: count(choice.get("index")) or 0)
    usage = interface.within(body, "usage")
    common = {"response_id": body.get("id"), "usage": usage or None}
    common |= kept(body, "id", "object", "created", "model", "choices", "usage", "error")
    error = interface.failure(body) if body.get("error") else ""
    return Answered(
        answers=[interface.readable([_said(choice)]) for choice in choices],
        details=[_details(choice, common) for choice in choices],
        id=text(body.get("id")),
        model=text(body.get("model")),
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        state="failed" if error else "completed",
        error=error,
    )


def stream() -> Stream:
    """An answer that will come in events."""
    return Stream()


class Stream:
    """Chunks of a completion, put together as the whole that would have come without a stream."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._calls: dict[int, Calls] = {}
        self._done = False

    def take(self, event: Event) -> bool:
        """Take in a chunk."""
        if event.data.strip() == DONE:
            self._done = True
            return True
        chunk = interface.piece(event.data)
        if isinstance(chunk, dict):
            for choice in objects(chunk.get("choices")):
                self._choice(choice)
            self._body.update((k, v) for k, v in chunk.items() if k != "choices" and v is not None)
        return False

    def answered(self) -> Answered:
        """What has come so far; whole once every choice has said why it ended."""
        for index, calls in self._calls.items():
            self._choices[index]["message"]["tool_calls"] = calls.made()
        said = answered(halves.joined({**self._body, "choices": list(self._choices.values())}))
        whole = self._done or (bool(self._choices) and all(c.get("finish_reason") for c in self._choices.values()))
        return said if whole or said.error else interface.partial(said)

    def _choice(self, chunk: dict[str, Any]) -> None:
        index = count(chunk.get("index")) or 0
        choice = self._choices.setdefault(index, {"index": index, "message": {"role": "assistant"}})
        delta, whole = chunk.get("delta"), chunk.get("message")
        if not delta and isinstance(whole, dict):
            # Some upstreams send messages instead of deltas; some say it whole once more at the end.
            delta, said = whole, choice["message"]
            if chunk.get("finish_reason") and text(whole.get("content")).startswith(text(said.get("content"))):
                choice["message"] = {key: value for key, value in said.items() if whole.get(key) is None}
                if whole.get("tool_calls"):
                    self._calls.pop(index, None)
        if isinstance(delta, dict):
            if calls := objects(delta.get("tool_calls")):
                self._calls.setdefault(index, Calls()).take(calls)
            merge(choice["message"], {k: v for k, v in delta.items() if k != "tool_calls"})
        merge(choice, {k: v for k, v in chunk.items() if k not in ("index", "delta", "message", "finish_reason")})
        if chunk.get("finish_reason"):
            choice["finish_reason"] = chunk["finish_reason"]


def _said(choice: dict[str, Any]) -> Message:
    message = choice.get("message")
    return {**_message(message if isinstance(message, dict) else {}), "role": "assistant"}


def _details(choice: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    details = {**common, **kept(choice, "index", "message", "delta")}
    details |= interface.within(details, "meta_info")  # of SGLang
    for name, known in TOKENS.items():
        if name in details:
            details.setdefault(known, details.pop(name))
    return kept(details, "meta_info")


def _message(raw: dict[str, Any]) -> Message:
    """A message with its text as text, and calls of custom tools as calls of functions."""
    message = {k: v for k, v in raw.items() if v is not None and k not in ("cache_control", "content")}
    content = raw.get("content")
    if isinstance(content, list):
        thoughts = [part for part in objects(content) if part.get("type") == "thinking"]
        if thoughts and not message.get("reasoning_content"):
            message["reasoning_content"] = "\n".join(_thought(part.get("thinking")) for part in thoughts)
            content = [part for part in content if part not in thoughts]
        content = interface.joined(content)
    message["content"] = content
    if message.get("tool_calls") == []:
        del message["tool_calls"]
    elif isinstance(calls := message.get("tool_calls"), list):
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def _thought(said: Any) -> str:
    """What is thought in a part: a text, or parts of text."""
    return text(said) or "".join(text(part.get("text")) for part in objects(said))


def _call(call: Any) -> Any:
    if isinstance(call, dict) and isinstance(custom := call.get("custom"), dict):
        function = {"name": text(custom.get("name")), "arguments": dialects.as_text(custom.get("input") or "")}
        return {**kept(call, "custom"), "function": function}
    return call


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    custom = tool.get("custom")
    return {"type": "custom", "function": custom} if isinstance(custom, dict) else chat.function(tool)
