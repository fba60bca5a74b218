"""Tagged text: calls, results, tools and thoughts that a text carries between tags such as `<tool_call>`."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import msgspec

THOUGHT = re.compile(r"\s*<(think|REASONING_SCRATCHPAD)>\n?(.*?)\n?</\1>\n?", re.S)
BLANK = re.compile(r"\s*")
LITERAL = 2**16  # characters of a Python literal that are parsed: sets that print calls with repr have short ones
_JSON = json.JSONDecoder()


class Block(msgspec.Struct, frozen=True):
    """A part between a tag and its end, from `start` to `end` with them; `value` is None where it is not JSON."""

    start: int
    end: int
    body: str
    value: Any


def blocks(text: str, tag: str) -> list[Block]:
    """The blocks of a tag. The JSON in one may itself hold the closing tag; what is never closed is no block."""
    found: list[Block] = []
    opening, closing = f"<{tag}>", f"</{tag}>"
    at = text.find(opening)
    while at >= 0:
        begin = _skip(text, at + len(opening))
        value, end = None, text.find(closing, begin)
        if end < 0:
            break
        try:
            value, after = _JSON.raw_decode(text, begin)
            after = _skip(text, after)
            value, end = (value, after) if text.startswith(closing, after) else (None, end)
        except (ValueError, RecursionError):
            value = literal(text[begin:end].strip())
        found.append(Block(at, end + len(closing), text[begin:end].strip(), value))
        at = text.find(opening, found[-1].end)
    return found


def without(text: str, taken: list[Block]) -> str:
    """The text around blocks, without the line breaks that set them apart."""
    if not taken:
        return text
    edges = [0, *(edge for block in taken for edge in (block.start, block.end)), len(text)]
    parts = (text[a:b].strip("\n") for a, b in zip(edges[::2], edges[1::2], strict=True))
    return "\n".join(part for part in parts if part)


def thoughts(text: str) -> tuple[str | None, str]:
    """What is thought before a text begins, None where it is blank, and the text."""
    found, at = [], 0
    while match := THOUGHT.match(text, at):
        at = match.end()
        if match[2].strip():
            found.append(match[2])
    return "\n".join(found) or None, text[at:]


def tools(text: str) -> list[dict[str, Any]]:
    """The tools that a prompt lists between `<tools>` tags: a JSON list of them, or one after another."""
    for block in blocks(text, "tools"):
        value = block.value if block.value is not None else _each(block.body)
        listed = value if isinstance(value, list) else [value]
        if listed and all(isinstance(tool, dict) for tool in listed):
            return listed
    return []


def literal(text: str) -> Any:
    """A Python dict or list as `repr` prints it; None where it is none."""
    if not text.startswith(("{", "[")) or len(text) > LITERAL:
        return None
    try:
        value = ast.literal_eval(text)
        return json.loads(json.dumps(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _each(text: str) -> list[Any]:
    found, at = [], 0
    while at < len(text):
        try:
            value, at = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        found.append(value)
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    match = BLANK.match(text, at)
    return match.end() if match else at
