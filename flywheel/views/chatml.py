"""Steps as plain ChatML text with Hermes tool calls, cut into who wrote what; no tokenizer needed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from flywheel.schema import Step

START, END = "<|im_start|>", "<|im_end|>"

TOOLS = """\
# Tools

The signatures of the tools that can be called stand between the tags, one JSON object a line:
<tools>
{}
</tools>

A call is one JSON object between its own tags:
<tool_call>
{{"name": "NAME", "arguments": {{...}}}}
</tool_call>"""


class Span(msgspec.Struct, frozen=True):
    """A stretch of rendered text: whose turn it belongs to, and whether the assistant wrote it and is trained on it."""

    text: str
    trained: bool
    role: str


def spans(steps: Sequence[Step], tools: str = "[]") -> list[Span]:
    """The conversation as spans whose texts, joined, are the whole rendering.

    `tools` is the JSON list of a trajectory; they stand in the system turn. An assistant's span is trained: its
    reasoning in <think>, its content, its calls with the arguments as it wrote them, and its end of turn. Results
    that follow each other share one user turn, each in <tool_response>. No newline follows the last end of turn.
    """
    cut: list[Span] = []
    offered = json.loads(tools)
    signatures = TOOLS.format("\n".join(json.dumps(tool, ensure_ascii=False) for tool in offered)) if offered else ""
    if signatures and (not steps or steps[0].role != "system"):
        cut.append(Span(f"{START}system\n{signatures}{END}", False, "system"))
    for index, step in enumerate(steps):
        gap = "\n" if cut else ""
        if step.role == "assistant":
            cut.append(Span(f"{gap}{START}assistant\n", False, "assistant"))
            cut.append(Span(said(step) + END, True, "assistant"))
        elif step.role == "tool":
            opens = index == 0 or steps[index - 1].role != "tool"
            closes = index == len(steps) - 1 or steps[index + 1].role != "tool"
            answer = f"\n<tool_response>\n{step.content or ''}\n</tool_response>"
            cut.append(Span((f"{gap}{START}user" if opens else "") + answer + (END if closes else ""), False, "tool"))
        else:
            content = step.content or ""
            if index == 0 and step.role == "system" and signatures:
                content = f"{content}\n\n{signatures}" if content else signatures
            cut.append(Span(f"{gap}{START}{step.role}\n{content}{END}", False, step.role))
    return cut


def said(step: Step) -> str:
    """What an assistant's step says: reasoning, content and calls, without its end of turn."""
    thought = f"<think>\n{step.reasoning}\n</think>\n\n" if step.reasoning else ""
    calls = [
        f'<tool_call>\n{{"name": {_text(call.name)}, "arguments": {call.arguments}}}\n</tool_call>'
        for call in step.tool_calls
    ]
    return thought + "\n".join([*([step.content] if step.content else []), *calls])


def _text(value: str) -> str:
    """A JSON string."""
    return json.dumps(value, ensure_ascii=False)
