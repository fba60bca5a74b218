"""Steps rendered by any Hugging Face chat template, with a mask that is 1 on the tokens the assistant itself wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.schema import FlywheelError, Step
from flywheel.views.chatml import Span
from flywheel.views.messages import to_messages
from flywheel.views.tokens import Bounds, masked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


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
    chat = _Chat(tokenizer, to_messages(steps), json.loads(tools) or None)
    turns = [index for index, step in enumerate(steps) if step.role == "assistant"]
    wanted = [index for index in turns if trained is None or index in trained]
    marked = GENERATION.search(chat.template)
    text, bounds = _marked(chat, turns, wanted) if marked else _proved(chat, wanted)
    for index, (start, end) in zip(wanted, bounds, strict=True):
        _check_said(steps[index], index, text[start:end], last=index == len(steps) - 1)
    input_ids, mask = masked(tokenizer, text, bounds)
    return Rendered(text, input_ids, mask, _spans(text, bounds, wanted, steps))


class _Chat:
    """A conversation and the template that renders parts of it."""

    def __init__(self, tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> None:
        self.tokenizer, self.messages, self.tools = tokenizer, messages, tools
        try:
            self.template: str = tokenizer.get_chat_template(tools=tools)
        except ValueError as error:
            raise FlywheelError(f"the tokenizer has no chat template: {str(error).splitlines()[0]}") from error
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.special = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))

    def without_gap(self, text: str) -> int:
        """Where a text ends without the white space that follows its last control token."""
        bare = text.rstrip()
        return len(bare) if bare.endswith(self.special) else len(text)

    def text(self, count: int | None = None, *, prompt: bool = False) -> str:
        """The first `count` messages as text, with the prompt for an assistant's turn after them."""
        if count == 0:
            return self._beginning(prompt)
        return self._rendered(self.messages[:count], prompt)[0]

    def _beginning(self, prompt: bool) -> str:
        """What stands before a conversation that the assistant opens; few templates render no messages at all."""
        one, prompted = self.text(1), self.text(1, prompt=True)
        header = prompted[len(one) :].lstrip() if prompted.startswith(one) else ""
        at = one.find(header)
        return one[: at + len(header) * prompt] if header and at >= 0 else ""

    def with_marks(self) -> tuple[str, list[Bounds]]:
        """The whole text, and where its `{% generation %}` blocks lie in it."""
        return self._rendered(self.messages, False) if self.messages else ("", [])

    def _rendered(self, messages: list[dict[str, Any]], prompt: bool) -> tuple[str, list[Bounds]]:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, marks = render_jinja_template(
                [messages],
                tools=self.tools,
                chat_template=self.template,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=bool(GENERATION.search(self.template)),
                **self.tokenizer.special_tokens_map,
            )
        except (TemplateError, TypeError) as error:
            raise FlywheelError(f"the chat template refuses this conversation: {error}") from error
        return texts[0], [(int(start), int(end)) for start, end in marks[0]] if marks else []


def _marked(chat: _Chat, turns: list[int], wanted: list[int]) -> tuple[str, list[Bounds]]:
    """Bounds of the wanted turns as the template marks them, with the end of turn where it stands right behind."""
    text, marks = chat.with_marks()
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


def _proved(chat: _Chat, wanted: list[int]) -> tuple[str, list[Bounds]]:
    """Bounds of the wanted turns, each shown to be what the template renders when the conversation ends there."""
    text = chat.text() if chat.messages else ""
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
            "take a template that renders reasoning_content, content and tool_calls"
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
