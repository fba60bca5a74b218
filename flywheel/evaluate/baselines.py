"""Baselines: agents that need no training, played on the same tasks so that a success rate means something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.environments.protocol import Act, Actor, Situation
from flywheel.evaluate.suite import Suite
from flywheel.schema import FlywheelError

CAPTURED = "captured agents"


class Team:
    """An actor that lets another one act in each environment."""

    def __init__(self, name: str, members: Mapping[str, Actor]) -> None:
        self.name = name
        self.version = ",".join(f"{place}:{a.name}@{a.version}" for place, a in sorted(members.items()))
        self._members = dict(members)

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        """`n` steps for each situation, by the member of its environment."""
        acts: list[list[Act]] = [[] for _ in situations]
        for place in sorted({s.task.environment for s in situations}):
            chosen = [i for i, s in enumerate(situations) if s.task.environment == place]
            found = self._members[place].act([situations[i] for i in chosen], n=n, temperature=temperature, seed=seed)
            for i, act in zip(chosen, found, strict=True):
                acts[i] = act
        return acts


def actors(suite: Suite) -> list[Actor]:
    """The scripted baselines of the environments that ship (empty, lazy, refusers), and the captured agents.

    The captured agents are the newest version of each environment's own; played at temperature 1 they act as
    they were captured.
    """
    from flywheel.environments.agents import BASELINES
    from flywheel.environments.habits import captured_agents

    newest = {name: captured_agents(name)[-1] for name in suite.environments}
    return [*BASELINES, Team(CAPTURED, newest)]


def scripted(suite: Suite, name: str) -> Actor | None:
    """A baseline, or the reference solution, by its name; None when there is none of that name."""
    from flywheel.environments.agents import REFERENCE

    try:
        known = [*actors(suite), REFERENCE]
    except FlywheelError:
        return None
    return next((actor for actor in known if actor.name == name), None)
