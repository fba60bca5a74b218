"""Baselines: agents that need no training, played on the same tasks so that a success rate means something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.environments.protocol import Act, Actor, Situation
from flywheel.evaluate.entrants import Entrant, Player
from flywheel.evaluate.suite import Suite

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


def players(suite: Suite) -> list[Player]:
    """The scripted baselines of the environments that ship (empty, lazy, refusers), and the captured agents.

    The captured agents are the newest version of each environment's own; at temperature 1 they act as they were
    captured, greedy they follow their habits without a slip. The others are the same at any temperature.
    """
    from flywheel.environments.agents import BASELINES
    from flywheel.environments.habits import captured_agents

    newest = Team(CAPTURED, {name: captured_agents(name)[-1] for name in suite.environments})
    return [*(_player(actor, (0.0,)) for actor in BASELINES), _player(newest, (0.0, 1.0))]


def _player(actor: Actor, temperatures: tuple[float, ...]) -> Player:
    return Player(entrant=Entrant(name=actor.name, role="baseline"), actor=actor, temperatures=temperatures)
