"""Label leaks: rewards that a log printed where the agent, and later a model in training, would read them."""

from __future__ import annotations

import re

import msgspec

from flywheel.schema import Step, Trajectory

SIGNAL = "printed_reward"
# "reward = True", "Reward: 0.5", "reward is 1", "'reward': 0": the word, a sign, and a truth value or a number in 0..1.
PRINTED = re.compile(
    r"(?i)(?P<before>\breward\b(?P<quote>[\"'])?\s*(?:=|:|\bis\b)\s*)(?P<value>true|false|[01]?\.\d+|[01])(?![\w.]*\w)"
)
# Who speaks for the environment. An agent's own words and the system prompt are not observations.
OBSERVERS = ("tool", "user")


def masked(trajectory: Trajectory) -> tuple[Trajectory, list[tuple[int, float]]]:
    """The trajectory with each printed reward replaced by `<LABEL>` (`null` in JSON); (step index, value) of each."""
    printed: list[tuple[int, float]] = []
    steps: list[Step] = []
    for index, step in enumerate(trajectory.steps):
        if step.role in OBSERVERS and step.content and "reward" in step.content.lower():
            content = step.content
            for match in PRINTED.finditer(content):
                printed.append((index, _number(match["value"])))
            step = msgspec.structs.replace(step, content=PRINTED.sub(_mask, content))
        steps.append(step)
    return (msgspec.structs.replace(trajectory, steps=tuple(steps)), printed) if printed else (trajectory, [])


def _mask(match: re.Match[str]) -> str:
    return match["before"] + ("null" if match["quote"] else "<LABEL>")


def _number(text: str) -> float:
    word = text.lower()
    return float(word == "true") if word.isalpha() else float(word)
