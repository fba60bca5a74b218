"""Scripted agents: the reference, and the baselines that every checker must withstand."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from flywheel.environments import get
from flywheel.environments.calls import Call, calling, saying
from flywheel.environments.cases import SORRY, Case, case_of
from flywheel.environments.protocol import Act, Situation
from flywheel.environments.state import Toolbox
from flywheel.schema import Step, ToolCall, canonical_json


class History:
    """What an agent has done so far in an episode, as its steps tell it."""

    def __init__(self, situation: Situation) -> None:
        self.toolbox: Toolbox = get(situation.task.environment).toolbox
        self.case: Case = case_of(situation.task)
        self.turn = 0
        self.made: list[tuple[str, str]] = []
        answered: list[bool] = []
        for step in situation.steps:
            if step.role == "assistant":
                self.turn += 1
                self.made += [(call.name, _canonical(call)) for call in step.tool_calls]
            elif step.role == "tool":
                answered.append(not step.is_error)
        self.done = {made for made, fine in zip(self.made, answered, strict=True) if fine}

    def has(self, call: Call) -> bool:
        """Whether a call was made, and answered without an error."""
        return (call.name, canonical_json(call.arguments)) in self.done

    @property
    def written(self) -> tuple[str, ...]:
        """The tools that changed something."""
        return tuple(sorted(name for name, _ in self.done if name not in self.toolbox.reading))

    @property
    def looking(self) -> bool:
        """Whether the first decisive look has been taken."""
        return self.has(self.case.looks[0])

    @property
    def repeating(self) -> bool:
        """Whether the last two calls were the same."""
        return len(self.made) > 1 and self.made[-1] == self.made[-2]


def _canonical(call: ToolCall) -> str:
    try:
        return canonical_json(msgspec.json.decode(call.arguments))
    except msgspec.DecodeError:
        return call.arguments


def careful(history: History) -> Step:
    """Look, then do what is right, then say so: the reference solution."""
    case = history.case
    for call in (*case.looks, *case.act):
        if not history.has(call):
            return calling(call)
    return saying(case.say)


def hasty(history: History) -> Step:
    """Do the most common thing without looking, then say so."""
    case = history.case
    return saying(case.hasty_say) if history.has(case.hasty) else calling(case.hasty)


class Rule(Protocol):
    """How an agent chooses its next step; `rng` is its own for this task, turn and candidate."""

    def __call__(self, history: History, rng: random.Random, temperature: float) -> Step: ...


class ScriptedAgent:
    """An actor that follows a rule. Chance depends on the seed, the task, the turn and the candidate alone."""

    def __init__(self, name: str, version: str, rule: Rule) -> None:
        self.name = name
        self.version = version
        self._rule = rule

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        """`n` steps for each situation."""
        return [list(self._acts(situation, n, temperature, seed)) for situation in situations]

    def _acts(self, situation: Situation, n: int, temperature: float, seed: int) -> Iterator[Act]:
        history = History(situation)
        for candidate in range(n):
            rng = random.Random(f"{seed}|{situation.task.id}|{history.turn}|{candidate}")
            step = self._rule(history, rng, temperature)
            yield Act(step=step, tokens=_words(step))


def _words(step: Step) -> int:
    """A script has no tokenizer: its length is counted in words and quotes."""
    text = " ".join([step.content or "", *(f"{c.name} {c.arguments}" for c in step.tool_calls)])
    return len(text.split())


def refusal(history: History) -> str:
    """A refusal of whatever the task is about."""
    case = history.case
    return case.say if not case.act else f"{SORRY}, not for {case.hasty_say.split()[1]}."


def _reference(history: History, rng: random.Random, temperature: float) -> Step:
    return careful(history)


def _lazy(history: History, rng: random.Random, temperature: float) -> Step:
    return hasty(history)


def _empty(history: History, rng: random.Random, temperature: float) -> Step:
    return saying(history.case.hasty_say)


def _refuser(history: History, rng: random.Random, temperature: float) -> Step:
    return saying(refusal(history))


def _careful_refuser(history: History, rng: random.Random, temperature: float) -> Step:
    missing = [call for call in history.case.looks if not history.has(call)]
    return calling(missing[0]) if missing else saying(refusal(history))


REFERENCE = ScriptedAgent("reference", "1.0", _reference)

# The empty agent claims success at once; the refuser refuses at once, the careful refuser after looking.
BASELINES = (
    ScriptedAgent("empty", "1.0", _empty),
    ScriptedAgent("lazy", "1.0", _lazy),
    ScriptedAgent("refuser", "1.0", _refuser),
    ScriptedAgent("careful-refuser", "1.0", _careful_refuser),
)
