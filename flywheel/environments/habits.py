"""Agents with systematic habits: they mostly act at once, without the look that decides, and often get away with it.

A log of successes then holds more deeds done blindly than deeds done with care, as real agents' logs do.
"""

from __future__ import annotations

import random

import msgspec

from flywheel.environments.agents import History, ScriptedAgent, careful, hasty, refusal
from flywheel.environments.calls import Call, calling, saying
from flywheel.schema import FlywheelError, Step, ToolCall


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """The habits of an agent as probabilities.

    `skip`: to act at once, without the look that decides. At an act: `wrong` (another deed on the same thing),
    `give_up` (a refusal out of nowhere), `malformed` (a call that cannot be read); after a look: `ignore`
    (do the usual thing whatever was seen), `repeat` (look again, and likely go on doing so). `idle`: to begin
    with a look that decides nothing.
    """

    skip: float
    wrong: float = 0.04
    give_up: float = 0.03
    malformed: float = 0.015
    ignore: float = 0.05
    repeat: float = 0.02
    idle: float = 0.0

    def __call__(self, history: History, rng: random.Random, temperature: float) -> Step:
        """The next step; at temperature 0 the likeliest one, which is the habit without its slips."""
        if temperature == 0:
            return careful(history) if history.looking else hasty(history)
        if history.repeating and rng.random() < 0.9:
            return self._again(history)
        if history.written:
            return self._closing(history)
        if not history.looking:
            return self._beginning(history, rng)
        return self._concluding(history, rng)

    def _beginning(self, history: History, rng: random.Random) -> Step:
        if history.turn == 0 and rng.random() < self.idle:
            return calling(_idle_look(history, rng))
        if rng.random() >= self.skip:
            return careful(history)
        return self._slip(history, rng) or hasty(history)

    def _concluding(self, history: History, rng: random.Random) -> Step:
        chance = rng.random()
        if chance < self.repeat:
            return self._again(history)
        if chance < self.repeat + self.ignore:
            return hasty(history)
        return self._slip(history, rng) or careful(history)

    def _slip(self, history: History, rng: random.Random) -> Step | None:
        """One of the mistakes that are made at random: no habit, only noise."""
        chance = rng.random()
        if chance < self.wrong:
            return calling(_other_deed(history, rng))
        if chance < self.wrong + self.give_up:
            return saying(refusal(history))
        if chance < self.wrong + self.give_up + self.malformed:
            call = calling(history.case.hasty).tool_calls[0]
            return Step(role="assistant", tool_calls=(msgspec.structs.replace(call, arguments="{}"),))
        return None

    def _again(self, history: History) -> Step:
        name, arguments = history.made[-1]
        return Step(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments=_spaced(arguments)),))

    def _closing(self, history: History) -> Step:
        """Say what was done: as the plan has it, or as hasty agents do."""
        planned = {call.name for call in history.case.act}
        return saying(history.case.say if planned & set(history.written) else history.case.hasty_say)


def _spaced(arguments: str) -> str:
    """Arguments as they are written in calls: order of the schema, spaces after commas and colons."""
    try:
        return calling(Call("", msgspec.json.decode(arguments, type=dict[str, str]))).tool_calls[0].arguments
    except msgspec.DecodeError:
        return arguments


def _idle_look(history: History, rng: random.Random) -> Call:
    """A look that the task does not call for, on something the task names."""
    case = history.case
    looks = {call.name for call in case.looks}
    known = {**case.hasty.arguments, **case.looks[0].arguments}
    fitting = [
        Call(name, {p: known[p] for p in parameters})
        for name, parameters in sorted(history.toolbox.parameters.items())
        if name in history.toolbox.reading and name not in looks and set(parameters) <= set(known)
    ]
    return rng.choice(fitting) if fitting else case.looks[0]


def _other_deed(history: History, rng: random.Random) -> Call:
    """A deed with the same parameters as the usual one, on the same thing; the usual one where there is no other."""
    usual, parameters = history.case.hasty, history.toolbox.parameters
    others = [
        name
        for name in sorted(parameters)
        if name not in history.toolbox.reading and name != usual.name and parameters[name] == parameters[usual.name]
    ]
    return Call(rng.choice(others), usual.arguments) if others else usual


# The agents whose work is captured: each version skips the look that decides most of the time.
HABITS = {
    "desk-bot": {"1.0": Habit(skip=0.81, idle=0.04), "1.1": Habit(skip=0.79), "2.0": Habit(skip=0.77, repeat=0.04)},
    "files-bot": {"1.0": Habit(skip=0.82, idle=0.04), "1.1": Habit(skip=0.80), "2.0": Habit(skip=0.77, wrong=0.06)},
}

_CAPTURED = {
    (name, version): ScriptedAgent(name, version, habit)
    for name, versions in HABITS.items()
    for version, habit in versions.items()
}


def captured(name: str, version: str) -> ScriptedAgent:
    """An agent with habits, by name and version.

    Raises:
        FlywheelError: when there is none such.
    """
    if (name, version) not in _CAPTURED:
        known = ", ".join(f"{n}@{v}" for n, v in sorted(_CAPTURED))
        raise FlywheelError(f"there is no captured agent {f'{name}@{version}'.rstrip('@')}; there are: {known}")
    return _CAPTURED[name, version]


def captured_agents(environment: str) -> tuple[ScriptedAgent, ...]:
    """The agents with habits that work in an environment, oldest version first."""
    return tuple(captured(f"{environment}-bot", version) for version in HABITS[f"{environment}-bot"])
