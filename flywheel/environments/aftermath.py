"""What production hears of an episode: a first verdict at once, and late signals that may overturn it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from flywheel.environments import get
from flywheel.environments.cases import SORRY
from flywheel.environments.protocol import Score, Task
from flywheel.schema import Step

# One task in so many is out of the first checker's sight: there it takes a deed that was reported for a good one.
BLIND = 4

# How often a wrongly passed episode is found out, and a rightly passed one confirmed, by people afterwards.
FOUND_OUT = 0.25
CONFIRMED = 0.05

# Share of late signals that come within two days; the others take from three days to eight.
SOON = 0.5


class LateSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that comes `delay_hours` after an episode's end: 0.0 where its work was undone, 1.0 where it held."""

    signal: str
    value: float
    delay_hours: float


def first_verdict(task: Task, steps: Sequence[Step], score: Score) -> float:
    """What production's checker says at once: the truth (1.0 or 0.0), or 1.0 for a wrong deed it cannot see."""
    if score.success:
        return 1.0
    reading = get(task.environment).toolbox.reading
    deed = any(call.name not in reading for step in steps for call in step.tool_calls)
    reported = score.checks["answered"] and not (steps[-1].content or "").startswith(SORRY)
    blind = random.Random(f"blind|{task.id}").randrange(BLIND) == 0
    return float(deed and reported and blind)


def aftermath(task: Task, steps: Sequence[Step], score: Score, seed: int) -> tuple[LateSignal, ...]:
    """The late signals of an episode: mostly none; they tell the truth. The same arguments, the same signals."""
    if not first_verdict(task, steps, score):
        return ()
    rng = random.Random(f"aftermath|{seed}|{task.id}")
    if rng.random() >= (CONFIRMED if score.success else FOUND_OUT):
        return ()
    delay = rng.uniform(2, 48) if rng.random() < SOON else rng.uniform(72, 192)
    signal = get(task.environment).late_signal
    return (LateSignal(signal=signal, value=float(score.success), delay_hours=round(delay, 2)),)
