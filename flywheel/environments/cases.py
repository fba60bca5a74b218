"""What templates are made of: scenarios and their branches, and the case that a task keeps secret."""

from __future__ import annotations

import msgspec

from flywheel.environments.calls import Call, World
from flywheel.environments.protocol import Task

# A refusal begins with this word, and nothing else does: so the checker can tell what the user was told.
SORRY = "Sorry"


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One way a scenario's hidden facts can lie: how often, what shows it, and what is right then.

    `looks` are the calls that show the decisive facts (`evidence`, by name); an empty `act` is a refusal.
    """

    weight: int
    facts: dict[str, str | None]
    looks: tuple[Call, ...]
    evidence: tuple[str, ...]
    act: tuple[Call, ...]
    say: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may want: its wordings, its branches, and what one does who acts without looking (`hasty`)."""

    name: str
    asks: tuple[str, ...]
    branches: tuple[Branch, ...]
    hasty: Call
    hasty_say: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A task's secret: the world as it is and as it should become, and the scripts that agents may follow."""

    world: World
    goal: World
    evidence: tuple[str, ...]
    looks: tuple[Call, ...]
    act: tuple[Call, ...]
    say: str
    hasty: Call
    hasty_say: str


class Template(msgspec.Struct, frozen=True):
    """A scenario in one wording. `group` names it, and decides its split."""

    group: str
    scenario: Scenario
    wording: str


def case_of(task: Task) -> Case:
    """What only the environment, its checker and its scripted agents know of a task."""
    return msgspec.json.decode(task.secret, type=Case)
