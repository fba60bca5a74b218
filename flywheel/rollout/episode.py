"""Episodes: an actor plays tasks of an environment, all of them in step, one batch of acts a turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from flywheel.environments.protocol import Actor, Environment, Score, Situation, Task, opening
from flywheel.schema import EndState, Step


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """A played task: its steps, the verdict, how it ended, tokens written and CPU seconds (its share of the batch)."""

    task: Task
    steps: tuple[Step, ...]
    score: Score
    end_state: EndState
    tokens: int
    cpu_seconds: float


def play(
    environment: Environment,
    tasks: Sequence[Task],
    actor: Actor,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    max_turns: int = 12,
    batch: int = 128,
    progress: Callable[[int], None] | None = None,
) -> list[Episode]:
    """Play each task once, in batches; `progress` is told how many tasks have ended.

    An episode that has not ended after `max_turns` assistant steps is `partial`, and scored as it stands.
    """
    episodes: list[Episode] = []
    for start in range(0, len(tasks), batch):
        episodes += _play_batch(environment, tasks[start : start + batch], actor, temperature, seed + start, max_turns)
        if progress:
            progress(len(episodes))
    return episodes


def _play_batch(
    environment: Environment,
    tasks: Sequence[Task],
    actor: Actor,
    temperature: float,
    seed: int,
    max_turns: int,
) -> list[Episode]:
    began = time.process_time()
    states = [environment.reset(task) for task in tasks]
    steps = [opening(task) for task in tasks]
    tokens = [0] * len(tasks)
    for turn in range(max_turns):
        active = [i for i, state in enumerate(states) if not state.done]
        if not active:
            break
        acts = actor.act(
            [Situation(tasks[i], steps[i]) for i in active],
            n=1,
            temperature=temperature,
            seed=seed * 1009 + turn,
        )
        for i, [act] in zip(active, acts, strict=True):
            steps[i] = (*steps[i], act.step, *states[i].step(act.step))
            tokens[i] += act.tokens
    share = (time.process_time() - began) / max(1, len(tasks))
    return [
        Episode(
            task=task,
            steps=steps[i],
            score=states[i].score(),
            end_state="completed" if states[i].done else "partial",
            tokens=tokens[i],
            cpu_seconds=share,
        )
        for i, task in enumerate(tasks)
    ]
