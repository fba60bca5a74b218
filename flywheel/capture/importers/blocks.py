"""Content blocks as the Anthropic API writes them, as steps: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.capture.importers import chat
from flywheel.capture.importers.calls import Calls
from flywheel.schema import Role, Step

Content = str | list[dict[str, Any]] | None


class Block(msgspec.Struct):
    """One block of a message: of its fields, those of its `type` are set."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str | None = None
    name: str = ""
    input: dict[str, Any] | str = {}
    tool_use_id: str | None = None
    content: Any = None
    is_error: bool | None = None


class Usage(msgspec.Struct):
    """Tokens of one completion; what was read from and written to the cache counts apart."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt, cached or not."""
        parts = (self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens)
        return None if self.input_tokens is None else sum(part or 0 for part in parts)


def parsed(content: Content) -> list[tuple[Block, dict[str, Any]]]:
    """The blocks of a content, each beside the raw one. Raises ValueError where one is malformed."""
    raw = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return [(msgspec.convert(block, Block), block) for block in raw]


def assistant(content: Content, calls: Calls, about: dict[str, Any], **fields: Any) -> Step:
    """What the model wrote, as one step: text, thinking, and calls. `about` goes to its metadata."""
    blocks = parsed(content)
    thoughts = [block.thinking for block, _ in blocks if block.type == "thinking" and block.thinking]
    return Step(
        role="assistant",
        content=_text(blocks),
        reasoning="\n".join(thoughts) or None,
        tool_calls=tuple(
            calls.made(block.id, block.name, chat.as_text(block.input))
            for block, _ in blocks
            if block.type == "tool_use"
        ),
        metadata=_metadata(about, _others(blocks, "text", "thinking", "tool_use")),
        **fields,
    )


def user(content: Content, calls: Calls, about: dict[str, Any], role: Role = "user", **fields: Any) -> list[Step]:
    """What the model was given: each tool result a step of role `tool`, what stands between them one of `role`."""
    steps: list[Step] = []
    run: list[tuple[Block, dict[str, Any]]] = []

    def given() -> None:
        if run:
            others = _others(run, "text")
            steps.append(Step(role=role, content=_text(run), metadata=_metadata(about, others), **fields))
            run.clear()

    for block, raw in parsed(content):
        if block.type != "tool_result":
            run.append((block, raw))
            continue
        given()
        answer = parsed(msgspec.convert(block.content, Content))
        call_id, name = calls.answered(block.tool_use_id, None)
        steps.append(
            Step(
                role="tool",
                content=_text(answer),
                tool_call_id=call_id,
                tool_name=name,
                is_error=block.is_error,
                metadata=_metadata(about, _others(answer, "text")),
                **fields,
            )
        )
    given()
    return steps


def _text(blocks: Sequence[tuple[Block, dict[str, Any]]]) -> str | None:
    texts = [block.text for block, _ in blocks if block.type == "text"]
    return "\n".join(texts) if texts else None


def _others(blocks: Sequence[tuple[Block, dict[str, Any]]], *known: str) -> list[dict[str, Any]]:
    """Blocks that have no place in a step: pictures, documents, the server's own tools, thinking that is sealed."""
    return [raw for block, raw in blocks if block.type not in known]


def _metadata(about: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    kept = {k: v for k, v in {**about, "parts": parts or None}.items() if v is not None}
    return msgspec.json.encode(kept, order="sorted").decode()
