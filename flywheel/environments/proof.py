"""The proof that an environment ships with: its checker knows right from wrong, and its states fork."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from flywheel.environments.agents import BASELINES, REFERENCE
from flywheel.environments.calls import Call, calling, saying
from flywheel.environments.cases import SORRY, case_of
from flywheel.environments.protocol import Actor, Situation, Split, State, Task, opening
from flywheel.environments.templates import TemplateEnvironment
from flywheel.schema import Step

MAX_TURNS = 12


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was shown for a split: success rates by agent, and counts of forks and replays, with those that failed."""

    environment: str
    split: str
    tasks: int
    reference: float
    baselines: dict[str, float]
    forks: int
    forks_failed: int
    replays_failed: int

    @property
    def holds(self) -> bool:
        """The reference always succeeds, the empty agent hardly ever, no baseline nearly always; forks are true."""
        return (
            self.reference == 1.0
            and self.baselines["empty"] <= 0.05
            and max(self.baselines.values()) < 0.75
            and not self.forks_failed
            and not self.replays_failed
        )


def prove(
    environment: TemplateEnvironment,
    n: int,
    seed: int,
    split: Split = "heldout",
    progress: Callable[[int], None] | None = None,
) -> Proof:
    """Play `n` tasks of a split by the reference and each baseline, and fork at every turn of a random walk."""
    tasks = environment.tasks(split, n, seed)
    forks = failed = replays = 0
    actors = (REFERENCE, *BASELINES)
    successes = dict.fromkeys((actor.name for actor in actors), 0)
    for done, task in enumerate(tasks, 1):
        for actor in actors:
            successes[actor.name] += played(environment, task, actor)[0].score().success
        walk = random_walk(environment, task, random.Random(f"{seed}|{task.id}"))
        forks += len(walk)
        failed += sum(not fork_holds(environment, task, walk[:i], walk[i]) for i in range(len(walk)))
        replays += replay(environment, task, walk).hash() != replay(environment, task, walk).hash()
        if progress:
            progress(done)
    rates = {name: count / max(1, n) for name, count in successes.items()}
    return Proof(
        environment=environment.name,
        split=split,
        tasks=n,
        reference=rates.pop(REFERENCE.name),
        baselines=rates,
        forks=forks,
        forks_failed=failed,
        replays_failed=replays,
    )


def played(environment: TemplateEnvironment, task: Task, actor: Actor) -> tuple[State, tuple[Step, ...]]:
    """The state in which an actor, at temperature 0, leaves a task, and all steps on the way."""
    state, steps = environment.reset(task), opening(task)
    for _ in range(MAX_TURNS):
        if state.done:
            break
        [[act]] = actor.act([Situation(task, steps)], n=1, temperature=0.0, seed=0)
        steps = (*steps, act.step, *state.step(act.step))
    return state, steps


def replay(environment: TemplateEnvironment, task: Task, walk: Sequence[Step]) -> State:
    """The state that a row of assistant steps leads to."""
    state = environment.reset(task)
    for step in walk:
        state.step(step)
    return state


def fork_holds(environment: TemplateEnvironment, task: Task, before: Sequence[Step], action: Step) -> bool:
    """Whether the same action on two forks gives one hash and one answer, and leaves the parent as it was."""
    parent = replay(environment, task, before)
    hash_before, score_before = parent.hash(), parent.score()
    one, other = parent.fork(), parent.fork()
    same = one.step(action) == other.step(action) and one.hash() == other.hash() and one.score() == other.score()
    return same and parent.hash() == hash_before and parent.score() == score_before


def random_walk(environment: TemplateEnvironment, task: Task, rng: random.Random, turns: int = 6) -> list[Step]:
    """Assistant steps picked blindly among the tools, on things that the task knows of; the last may end it."""
    things = _things(task)
    walk: list[Step] = []
    for _ in range(rng.randint(1, turns)):
        name = rng.choice(sorted(environment.toolbox.parameters))
        arguments = {parameter: rng.choice(things) for parameter in environment.toolbox.parameters[name]}
        walk.append(calling(Call(name, arguments)))
    if rng.random() < 0.5:
        walk.append(saying(rng.choice(("Done.", f"{SORRY}."))))
    return walk


def _things(task: Task) -> list[str]:
    """Names that occur in a task's world, in order: things, paths, and what they hold."""
    world = case_of(task).world
    things = {key.split(separator)[0] for key in world for separator in "./"}
    return sorted(things | set(world) | set(world.values()))
