"""Environments made of templates: scenarios in several wordings, over a flat world of facts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from flywheel.curate.split import split_of
from flywheel.environments.calls import Handler, World, parameters_of
from flywheel.environments.cases import Case, Scenario, Template, case_of
from flywheel.environments.protocol import Split, State, Task
from flywheel.environments.state import TemplateState, Toolbox

HOLDOUT_PERCENT = 25


class TemplateEnvironment:
    """An environment whose tasks come from scenarios x wordings, a quarter of the templates held out.

    `reading` are the tools that change nothing. `draw` names a task's entities; `base` gives the facts of a
    world before a branch sets its own (None removes a fact). `late_signal` is what people may say days later.
    """

    def __init__(
        self,
        *,
        name: str,
        checker_version: str,
        system: str,
        tools: tuple[dict[str, Any], ...],
        handlers: dict[str, Handler],
        reading: frozenset[str],
        scenarios: tuple[Scenario, ...],
        frames: dict[str, str],
        draw: Callable[[random.Random], dict[str, str]],
        base: Callable[[random.Random, Mapping[str, str]], World],
        entities: tuple[str, ...],
        late_signal: str,
    ) -> None:
        self.name = name
        self.checker_version = checker_version
        self.system = system
        self.tools = tools
        self.toolbox = Toolbox(handlers=handlers, parameters=parameters_of(tools), reading=reading)
        self.scenarios = scenarios
        self.frames = frames
        self.entities = entities
        self.late_signal = late_signal
        self._draw = draw
        self._base = base

    @cached_property
    def templates(self) -> dict[Split, tuple[Template, ...]]:
        """All templates, by split."""
        templates: dict[Split, list[Template]] = {"train": [], "heldout": []}
        for scenario in self.scenarios:
            for number, ask in enumerate(scenario.asks, 1):
                for frame, text in self.frames.items():
                    group = f"{self.name}/{frame}/{scenario.name}{number}"
                    template = Template(group, scenario, text.replace("{ask}", ask))
                    templates[split_of(group, HOLDOUT_PERCENT)].append(template)
        return {split: tuple(group) for split, group in templates.items()}

    def tasks(self, split: Split, n: int, seed: int) -> list[Task]:
        """`n` tasks of a split: the first `n` of an endless row that the seed alone decides."""
        return [self._task(split, seed, i) for i in range(n)]

    def _task(self, split: Split, seed: int, i: int) -> Task:
        rng = random.Random(f"{self.name}|{split}|{seed}|{i}")
        template = rng.choice(self.templates[split])
        scenario = template.scenario
        names = self._draw(rng)
        branch = rng.choices(scenario.branches, [b.weight for b in scenario.branches])[0]
        world = self._base(rng, names)
        for fact, value in branch.facts.items():
            if value is None:
                world.pop(fact.format_map(names), None)
            else:
                world[fact.format_map(names)] = value.format_map(names)
        act = tuple(call.filled(names) for call in branch.act)
        goal = dict(world)
        for call in act:
            self.toolbox.handlers[call.name](goal, call.arguments)
        case = Case(
            world=world,
            goal=goal,
            evidence=tuple(fact.format_map(names) for fact in branch.evidence),
            looks=tuple(call.filled(names) for call in branch.looks),
            act=act,
            say=branch.say.format_map(names),
            hasty=scenario.hasty.filled(names),
            hasty_say=scenario.hasty_say.format_map(names),
        )
        return Task(
            id=f"{template.group}/{split}-{seed}-{i}",
            group=template.group,
            environment=self.name,
            system=self.system,
            prompt=template.wording.format_map(names),
            secret=msgspec.json.encode(case).decode(),
        )

    def reset(self, task: Task) -> State:
        """The state in which a task begins."""
        case = case_of(task)
        return TemplateState(self.toolbox, task, case, dict(case.world), frozenset(), acted=False, told=None)
