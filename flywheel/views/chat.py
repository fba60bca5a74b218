"""Steps rendered by any Hugging Face chat template, with a mask that is 1 on the tokens the assistant itself wrote."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from flywheel.schema import FlywheelError, Step
from flywheel.views.chatml import Span
from flywheel.views.messages import to_messages
from flywheel.views.template import Template
from flywheel.views.tokens import Bounds, masked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Rendered(msgspec.Struct, frozen=True):
    """A conversation as a model reads it. `spans` cover `text` in order; `assistant_mask` has one digit a token."""

    text: str
    input_ids: list[int]
    assistant_mask: list[int]
    spans: list[Span]


class HistoryRewritten(FlywheelError):
    """The template shows an earlier turn otherwise than it was written, so one rendering cannot train them all."""


def render(
    tokenizer: PreTrainedTokenizerBase, steps: Sequence[Step], tools: str = "[]", trained: Collection[int] | None = None
) -> Rendered:
    """The conversation in the tokenizer's own template, with the assistant's turns marked.

    A turn is marked from behind the generation prompt up to and with its end-of-turn token, as a model would write
    it. A template with `{% generation %}` blocks says itself where that is; with any other, each turn's beginning
    and end are found by rendering the conversation up to it, and proved to be the beginning of the whole.
    `trained` picks steps by index (all assistant steps by default); `tools` is the JSON list of a trajectory.

    Raises:
        HistoryRewritten: when the template renders a trained turn otherwise once others follow, as those do that
            drop earlier reasoning. `window.windows` renders such a conversation piece by piece.
        FlywheelError: when the template refuses the conversation, or leaves out something the assistant said.
    """
    chat = Template(tokenizer, to_messages(steps), json.loads(tools) or None)
    turns = [index for index, step in enumerate(steps) if step.role == "assistant"]
    wanted = [index for index in turns if trained is None or index in trained]
    text, bounds = _marked(chat, turns, wanted) if chat.marked else _proved(chat, wanted)
    for index, (start, end) in zip(wanted, bounds, strict=True):
        _check_said(steps[index], index, text[start:end], last=index == len(steps) - 1)
    input_ids, mask = masked(tokenizer, text, bounds)
    return Rendered(text, input_ids, mask, _spans(text, bounds, wanted, steps))


def _marked(chat: Template, turns: list[int], wanted: list[int]) -> tuple[str, list[Bounds]]:
    """Bounds of the wanted turns as the template marks them, with the end of turn where it stands right behind."""
    text, marks = chat.whole, chat.marks
    if len(marks) != len(turns):
        raise FlywheelError(
            f"the chat template marks {len(marks)} generations in a conversation of {len(turns)} assistant turns"
        )
    stop = chat.tokenizer.eos_token
    bounds = []
    for turn, (start, marked) in zip(turns, marks, strict=True):
        end = start + chat.without_gap(text[start:marked])
        if stop and end == marked and not text.endswith(stop, start, end) and text.startswith(stop, end):
            end += len(stop)
        if turn in wanted:
            bounds.append((start, end))
    return text, bounds


def _proved(chat: Template, wanted: list[int]) -> tuple[str, list[Bounds]]:
    """Bounds of the wanted turns, each shown to be what the template renders when the conversation ends there."""
    text = chat.whole
    bounds = []
    for turn in wanted:
        before, prompt, after = chat.text(turn), chat.text(turn, prompt=True), chat.text(turn + 1)
        if not after.startswith(prompt):
            raise FlywheelError(
                f"the chat template does not render step {turn} behind its own generation prompt; "
                "give it {% generation %} blocks around what the assistant writes"
            )
        if prompt == before and after.startswith(chat.special, len(prompt)):
            raise FlywheelError(
                "the chat template has no generation prompt: give it one (add_generation_prompt), or "
                "{% generation %} blocks around what the assistant writes"
            )
        end = chat.without_gap(after)
        if not text.startswith(after[:end]):
            raise HistoryRewritten(
                f"the chat template renders step {turn} otherwise once other steps follow it (as those do that drop "
                "earlier reasoning); render it in windows, or give the template {% generation %} blocks"
            )
        bounds.append((len(prompt), end))
    return text, bounds


def _check_said(step: Step, index: int, text: str, *, last: bool) -> None:
    """All that the assistant said stands in its turn, in order."""
    at = 0
    names = [("tool call", json.dumps(call.name, ensure_ascii=False)[1:-1]) for call in step.tool_calls]
    for what, part in [("reasoning", step.reasoning), ("content", step.content), *names]:
        said = (part or "").strip()
        found = text.find(said, at)
        if found >= 0:
            at = found + len(said)
            continue
        if what == "reasoning" and not last:
            raise HistoryRewritten(
                f"the chat template leaves out the reasoning of step {index}; render it in windows where it drops "
                "that of earlier turns alone"
            )
        raise FlywheelError(
            f"the chat template leaves out the {what} of step {index}, or moves it; "
            "take a template that renders reasoning_content, content and tool_calls, or leave it out of the steps"
        )


def _spans(text: str, bounds: list[Bounds], turns: list[int], steps: Sequence[Step]) -> list[Span]:
    """The text cut at the bounds; a stretch that is not trained bears the roles of the steps it shows."""
    spans: list[Span] = []
    at, shown = 0, 0
    for (start, end), turn in zip(bounds, turns, strict=True):
        if start > at:
            spans.append(Span(text[at:start], False, _roles(steps[shown:turn])))
        spans.append(Span(text[start:end], True, "assistant"))
        at, shown = end, turn + 1
    if at < len(text):
        spans.append(Span(text[at:], False, _roles(steps[shown:])))
    return spans


def _roles(steps: Sequence[Step]) -> str:
    return "+".join(dict.fromkeys(step.role for step in steps)) or "assistant"
