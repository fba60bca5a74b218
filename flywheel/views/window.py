"""Windows: a long conversation cut to a model's context, each assistant turn trained in exactly one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from flywheel.schema import FlywheelError, Step
from flywheel.views.chat import HistoryRewritten, Rendered, render
from flywheel.views.chatml import spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Window(msgspec.Struct, frozen=True):
    """A part of a conversation as a model reads it: the steps that it shows, and those of them that it trains."""

    rendered: Rendered
    shown: tuple[int, ...]
    trained: tuple[int, ...]


class Windows(msgspec.Struct, frozen=True):
    """The windows of a conversation, and the assistant steps that fit in none even with the opening alone."""

    windows: list[Window]
    left_out: tuple[int, ...]


def windows(tokenizer: PreTrainedTokenizerBase, steps: Sequence[Step], tools: str, max_tokens: int) -> Windows:
    """Cut a conversation into windows of at most `max_tokens` tokens; one that fits is one window.

    Every other window opens with the steps up to the first user's (the system prompt and the task), then shows a run
    of whole groups (an assistant's step with the tool results that answer it): earlier ones for context, in up to
    half of the room, then the ones that it trains. Only where that does not fit is a turn shown alone behind its
    context, without the results that follow it, and with less context. So is each turn that a template would show
    otherwise once others follow, so that the model is trained on what it would see.

    Raises:
        FlywheelError: when the template refuses the conversation.
    """
    cut = _Cut(tokenizer, steps, tools, max_tokens)
    made: list[Window] = []
    left_out: list[int] = []
    todo = [index for index, step in enumerate(steps) if step.role == "assistant"]
    if whole := cut.whole(todo):
        return Windows([whole], ())
    while todo:
        window = cut.window(todo)
        if window is None:
            left_out.append(todo.pop(0))
        else:
            made.append(window)
            todo = [turn for turn in todo if turn not in window.trained]
    return Windows(made, tuple(left_out))


def recent(tokenizer: PreTrainedTokenizerBase, steps: Sequence[Step], tools: str, max_tokens: int) -> Sequence[Step]:
    """What a model is shown before its next turn: the opening, and as many of the latest groups as fit.

    So it reads a long conversation as it does in training. About `max_tokens` are counted in plain ChatML; where not
    even the latest group fits behind the opening, all steps come back.
    """
    cut = _Cut(tokenizer, steps, tools, max_tokens)
    first = cut.latest()
    return steps if first in (0, len(cut.groups)) else [*steps[: cut.opening], *steps[cut.groups[first][0] :]]


class _Cut:
    """One conversation being cut: its opening, and its groups as ranges of steps."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, steps: Sequence[Step], tools: str, max_tokens: int) -> None:
        self.tokenizer, self.steps, self.tools, self.max_tokens = tokenizer, steps, tools, max_tokens
        users = [index for index, step in enumerate(steps) if step.role == "user"]
        turns = [index for index, step in enumerate(steps) if step.role == "assistant"]
        self.opening = users[0] + 1 if users else (turns or [len(steps)])[0]
        self.groups = groups(steps, self.opening)

    @cached_property
    def tokens(self) -> list[int]:
        """About how many tokens each step takes."""
        return _sizes(self.tokenizer, self.steps)

    @cached_property
    def sizes(self) -> list[int]:
        """About how many tokens each group takes."""
        return [sum(self.tokens[start:end]) for start, end in self.groups]

    @cached_property
    def room(self) -> int:
        """The tokens that the opening leaves to the groups."""
        try:
            taken = len(render(self.tokenizer, self.steps[: self.opening], self.tools, ()).input_ids)
        except FlywheelError:
            taken = sum(self.tokens[: self.opening])
        return self.max_tokens - taken

    def whole(self, turns: Sequence[int]) -> Window | None:
        """The window that shows all steps and trains all turns; None where it does not fit, or there is no turn."""
        everything = list(range(len(self.steps)))
        with suppress(HistoryRewritten):
            return self._first([everything], turns) if turns else None
        return None

    def window(self, todo: Sequence[int]) -> Window | None:
        """The window that trains the first turn of `todo`, and as many after it as fit; None where none can."""
        for runs in (self._runs(todo[0], len(self.steps)), self._runs(todo[0], self._next_user(todo[0]))):
            # What a template shows of a turn changes, if it does, when a user speaks again: so the shorter runs.
            with suppress(HistoryRewritten):
                return self._first(runs, todo) or self._first(self._alone(todo[0]), todo[:1])
        return self._first(self._alone(todo[0]), todo[:1])

    def latest(self) -> int:
        """The first of the last groups that fit behind the opening together."""
        return self._context(len(self.groups), self.room)

    def _first(self, candidates: Iterable[list[int]], todo: Sequence[int]) -> Window | None:
        """The first candidate (steps to show) that fits."""
        for shown in candidates:
            trained = [turn for turn in todo if turn in shown]
            at = {shown.index(turn) for turn in trained}
            rendered = render(self.tokenizer, [self.steps[index] for index in shown], self.tools, at)
            if len(rendered.input_ids) <= self.max_tokens:
                return Window(rendered, tuple(shown), tuple(trained))
        return None

    def _runs(self, turn: int, until: int) -> Iterator[list[int]]:
        """Opening, context, the turn's group and those after it that end by the step `until`: longest first."""
        group = self._group(turn)
        start = self._context(group, (self.room - self._size_of(group)) // 2)
        end = start
        room = self.room
        while end < len(self.groups) and self.groups[end][1] <= until and room >= self.sizes[end]:
            room -= self.sizes[end]
            end += 1
        for last in range(end, group, -1):
            yield [*range(self.opening), *self._steps(start, last)]

    def _alone(self, turn: int) -> Iterator[list[int]]:
        """Opening, context and the turn, with nothing behind it: most context first."""
        group = self._group(turn)
        if group < 0:
            yield [*range(turn + 1)]
            return
        for start in range(self._context(group, self.room - self._size_of(group)), group + 1):
            yield [*range(self.opening), *self._steps(start, group), *range(self.groups[group][0], turn + 1)]

    def _group(self, turn: int) -> int:
        """The group of a turn; -1 where it stands in the opening, as a greeting does."""
        return next((i for i, (start, end) in enumerate(self.groups) if start <= turn < end), -1)

    def _context(self, group: int, room: int) -> int:
        """The first of the groups before this one that fit into a room."""
        start = max(group, 0)
        while start > 0 and self.sizes[start - 1] <= room:
            start -= 1
            room -= self.sizes[start]
        return start

    def _size_of(self, group: int) -> int:
        return self.sizes[group] if group >= 0 else 0

    def _next_user(self, turn: int) -> int:
        return next((i for i in range(turn, len(self.steps)) if self.steps[i].role == "user"), len(self.steps))

    def _steps(self, start: int, end: int) -> range:
        """The steps of a run of groups."""
        return range(self.groups[start][0], self.groups[end - 1][1]) if end > start else range(0)


def groups(steps: Sequence[Step], first: int) -> list[tuple[int, int]]:
    """Ranges of steps that stay together: an assistant's with the tool results behind it, any other alone."""
    ranges: list[tuple[int, int]] = []
    for index in range(first, len(steps)):
        if steps[index].role == "tool" and ranges:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def _sizes(tokenizer: PreTrainedTokenizerBase, steps: Sequence[Step]) -> list[int]:
    """About how many tokens each step takes: measured in plain ChatML, whatever the template."""
    texts = ["".join(span.text for span in spans([step])) for step in steps]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
