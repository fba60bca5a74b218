"""What an environment is: tasks in, actions in, observations out; a state that forks and is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from flywheel.schema import Step

Split = Literal["train", "heldout"]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task: what the agent is told (`system`, `prompt`) and what only the environment knows (`secret`, JSON).

    `group` is the template that made it: splits keep a group together.
    """

    id: str
    group: str
    environment: str
    system: str
    prompt: str
    secret: str


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A checker's verdict: `success`, partial `credit` in 0..1 (1 exactly when successful), and each check by name."""

    success: bool
    credit: float
    checks: dict[str, bool]


class State(Protocol):
    """A task under way."""

    @property
    def task(self) -> Task: ...

    @property
    def done(self) -> bool:
        """Whether the episode is over: the agent spoke to the user without calling a tool."""
        ...

    def step(self, action: Step) -> tuple[Step, ...]:
        """Carry out an assistant's step: one tool step for each call, in order; none when it ends the episode.

        A call that is malformed or of an unknown tool is answered with an error, never raised.
        """
        ...

    def fork(self) -> State:
        """An independent copy: the same action on it gives the same hash, and this state stays as it is."""
        ...

    def hash(self) -> str:
        """A digest of all that can matter from here on: equal states, equal digests."""
        ...

    def score(self) -> Score:
        """The checker's verdict on the state as it is; deterministic."""
        ...


class Environment(Protocol):
    """A family of tasks with tools."""

    @property
    def name(self) -> str: ...

    @property
    def checker_version(self) -> str: ...

    @property
    def tools(self) -> tuple[dict[str, Any], ...]:
        """OpenAI-style function schemas, in alphabetical order of name."""
        ...

    def tasks(self, split: Split, n: int, seed: int) -> list[Task]:
        """`n` tasks of a split; the same seed gives the same tasks, and splits share no group."""
        ...

    def reset(self, task: Task) -> State: ...


class Situation(msgspec.Struct, frozen=True):
    """Where an actor stands: the task, and all steps so far (system and user first)."""

    task: Task
    steps: tuple[Step, ...]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One chosen assistant step: how likely it was (sum of log-probabilities) and its length in tokens."""

    step: Step
    logprob: float = 0.0
    tokens: int = 0


class Actor(Protocol):
    """Anything that acts: a scripted agent, a checkpoint, a server."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        """`n` steps for each situation, independently sampled; greedy where `temperature` is 0."""
        ...


def opening(task: Task) -> tuple[Step, ...]:
    """The steps that every episode of a task begins with."""
    return (Step(role="system", content=task.system), Step(role="user", content=task.prompt))
