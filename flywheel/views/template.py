"""A chat template over one conversation: the whole as text, and the text of each beginning of it."""

from __future__ import annotations

import json
import re
from typing import Any

from flywheel.schema import FlywheelError
from flywheel.views.tokens import Bounds

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class _ArgumentsAsText(FlywheelError):
    """The template joins the arguments of calls to its text as they are."""


class Template:
    """A tokenizer's chat template over one conversation: `whole` is the text of all messages.

    `marks` are the bounds of `{% generation %}` blocks in it (none unless `marked`), `special` the control tokens.
    """

    def __init__(self, tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> None:
        self.tokenizer, self.messages, self.tools = tokenizer, messages, tools
        try:
            self.source: str = tokenizer.get_chat_template(tools=tools)
        except ValueError as error:
            raise FlywheelError(f"the tokenizer has no chat template: {str(error).splitlines()[0]}") from error
        self.marked = bool(GENERATION.search(self.source))
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self.special = tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))
        try:
            self.whole, self.marks = self._rendered(self.messages, False)
        except _ArgumentsAsText:
            self.messages = _with_text_arguments(messages)
            self.whole, self.marks = self._rendered(self.messages, False)

    def without_gap(self, text: str) -> int:
        """Where a text ends without the white space that follows its last control token."""
        bare = text.rstrip()
        return len(bare) if bare.endswith(self.special) else len(text)

    def text(self, count: int, *, prompt: bool = False) -> str:
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

    def _rendered(self, messages: list[dict[str, Any]], prompt: bool) -> tuple[str, list[Bounds]]:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        if not messages:
            return "", []
        try:
            texts, marks = render_jinja_template(
                [messages],
                tools=self.tools,
                chat_template=self.source,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=self.marked,
                **self.tokenizer.special_tokens_map,
            )
        except TypeError as error:
            raise _ArgumentsAsText(f"the chat template refuses this conversation: {error}") from error
        except TemplateError as error:
            raise FlywheelError(f"the chat template refuses this conversation: {error}") from error
        return texts[0], [(int(start), int(end)) for start, end in marks[0]] if marks else []


def _with_text_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with the arguments of each call as JSON text, as some templates want them."""

    def call(given: dict[str, Any]) -> dict[str, Any]:
        function = given["function"]
        arguments = function["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {**given, "function": {**function, "arguments": text}}

    return [
        {**message, "tool_calls": [call(given) for given in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]
