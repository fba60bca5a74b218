"""Label leaks: rewards that a log printed where the agent, and later a model in training, would read them."""

from __future__ import annotations

import re

import msgspec

from flywheel.schema import Step, Trajectory, canonical_json

# "reward = True", "Reward: 0.5", "reward is 1", "'reward': 0": the word, a sign, and a truth value or a number in 0..1.
PRINTED = re.compile(
    r"(?i)(?P<before>\breward\b(?P<quote>[\"'])?\s*(?:=|:|\bis\b)\s*)(?:true|false|[01]?\.\d+|[01])(?![\w.]*\w)"
)
# Who speaks for the environment. An agent's own words and the system prompt are not observations.
OBSERVERS = ("tool", "user")


def masked(trajectory: Trajectory) -> tuple[Trajectory, int]:
    """The trajectory with each printed reward replaced by `<LABEL>` (`null` in JSON), and how many there were.

    The number goes to the metadata as `labels_masked`; the values go nowhere. A printed reward is no verdict: in
    real logs a database echoes a query in which the model itself had written "Reward: 1.0".
    """
    count = 0
    steps: list[Step] = []
    for step in trajectory.steps:
        if step.role in OBSERVERS and step.content and "reward" in step.content.lower():
            content, found = PRINTED.subn(_mask, step.content)
            step = msgspec.structs.replace(step, content=content)
            count += found
        steps.append(step)
    if not count:
        return trajectory, 0
    metadata = canonical_json({**msgspec.json.decode(trajectory.metadata), "labels_masked": count})
    return msgspec.structs.replace(trajectory, steps=tuple(steps), metadata=metadata), count


def _mask(match: re.Match[str]) -> str:
    return match["before"] + ("null" if match["quote"] else "<LABEL>")
