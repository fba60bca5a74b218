"""The closed vocabulary of the environments: what a small tokenizer must know before the first captures come."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flywheel.environments import get
from flywheel.environments.agents import REFERENCE
from flywheel.environments.calls import ERRORS
from flywheel.environments.cases import case_of
from flywheel.environments.habits import captured_agents
from flywheel.environments.protocol import Actor, Situation, Task, opening
from flywheel.environments.templates import TemplateEnvironment
from flywheel.schema import Step

# Letters and digits together, or one sign: how a word-level tokenizer cuts these texts.
WORD = re.compile(r"[A-Za-z0-9_]+|[^\sA-Za-z0-9_]")

MAX_TURNS = 12

# Enough that every scenario, slip and answer occurs many times.
EXAMPLES = 2000


def words(text: str) -> list[str]:
    """The words and signs of a text, in order."""
    return WORD.findall(text)


def example_episodes(environment: str, n: int, seed: int) -> Iterator[tuple[Step, ...]]:
    """Episodes on `n` tasks of train templates: the reference and each captured agent take turns."""
    place = get(environment)
    actors: tuple[Actor, ...] = (REFERENCE, *captured_agents(environment))
    for i, task in enumerate(place.tasks("train", n, seed)):
        yield _episode(place, task, actors[i % len(actors)], seed)


def _episode(environment: TemplateEnvironment, task: Task, actor: Actor, seed: int) -> tuple[Step, ...]:
    state, steps = environment.reset(task), opening(task)
    for turn in range(MAX_TURNS):
        if state.done:
            break
        [[act]] = actor.act([Situation(task, steps)], n=1, temperature=1.0, seed=seed * 1009 + turn)
        steps = (*steps, act.step, *state.step(act.step))
    return steps


def vocabulary(environment: str) -> tuple[str, ...]:
    """Every word that an environment's prompts, tools, scripts, facts and answers are made of, sorted.

    Held-out templates use no word that is not in it, and it is made from train templates and closed lists alone.
    """
    place = get(environment)
    known: set[str] = {*place.entities}
    texts = [place.system, *ERRORS]
    texts += [re.sub(r"\{\w+\}", " ", template.wording) for template in place.templates["train"]]
    for name, parameters in place.toolbox.parameters.items():
        known |= {name, *parameters}
    for task in place.tasks("train", EXAMPLES, 0):
        texts += [text for fact in case_of(task).world.items() for text in fact]
    for steps in example_episodes(environment, EXAMPLES, 0):
        for step in steps:
            texts += [step.content or "", *(call.arguments for call in step.tool_calls)]
    for text in texts:
        known.update(words(text))
    return tuple(sorted(known))
