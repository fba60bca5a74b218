"""A simulated week of production: which agent version works on which tasks, day by day."""

from __future__ import annotations

import random
from typing import NamedTuple

from flywheel.environments import get, habits, names
from flywheel.environments.agents import ScriptedAgent
from flywheel.environments.protocol import Task
from flywheel.environments.templates import TemplateEnvironment

# Share of production's tasks that come from held-out templates: real traffic does not keep to a split.
HELDOUT_SHARE = 0.06

# The versions that work on each day of the week, with their shares; later days keep to the last line.
ROTA = (
    {"1.0": 1.0},
    {"1.0": 1.0},
    {"1.0": 0.8, "1.1": 0.2},
    {"1.1": 1.0},
    {"1.1": 1.0},
    {"1.1": 0.7, "2.0": 0.3},
    {"2.0": 1.0},
)


class Assignment(NamedTuple):
    """One task, in one environment, for one agent."""

    environment: TemplateEnvironment
    task: Task
    agent: ScriptedAgent


def plan(day_index: int, seed: int, n: int, environments: tuple[str, ...] = names()) -> list[Assignment]:
    """The `n` tasks of a day (0 is the first), shared evenly over the environments.

    Assignments come sorted by environment and agent version, ready to be played in groups. The same
    arguments give the same day; no two days share a task's id.
    """
    rota = ROTA[min(day_index, len(ROTA) - 1)]
    assignments: list[Assignment] = []
    for position, name in enumerate(sorted(environments)):
        environment = get(name)
        count = n // len(environments) + (position < n % len(environments))
        heldout = round(count * HELDOUT_SHARE)
        day_seed = _day_seed(seed, day_index)
        tasks = environment.tasks("train", count - heldout, day_seed) + environment.tasks("heldout", heldout, day_seed)
        rng = random.Random(f"rota|{seed}|{day_index}|{name}")
        versions = rng.choices(list(rota), list(rota.values()), k=count)
        shifts = sorted(zip(versions, tasks, strict=True), key=lambda shift: shift[0])
        assignments += [Assignment(environment, task, habits.captured(f"{name}-bot", v)) for v, task in shifts]
    return assignments


def _day_seed(seed: int, day_index: int) -> int:
    """A seed apart from the small ones that people choose for evaluation."""
    return 1_000_000 + 1_000 * seed + day_index
