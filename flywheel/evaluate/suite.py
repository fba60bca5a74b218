"""Suites: which held-out tasks a policy is judged on, and its play on them, kept so that a kill costs little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.environments.protocol import Actor, Environment, Split, Task
from flywheel.evaluate.results import RESULTS, UNNAMED, rows
from flywheel.rollout.episode import play
from flywheel.schema import FlywheelError, canonical_json

# Tasks played between two writes: what a kill can cost, and the most that are sampled in one batch.
PART = 128

Lookup = Callable[[str], Environment]


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tasks that policies are judged on: `environments` maps each name to its number of tasks.

    `seed` makes the tasks and the sampling. It belongs to judging alone: a seed by which anything was chosen (a
    checkpoint, a learning rate, a temperature) says nothing about fresh tasks any more.
    """

    name: str = "heldout"
    environments: dict[str, int]
    split: Split = "heldout"
    seed: int = 9_000_001
    temperatures: tuple[float, ...] = (0.0, 1.0)
    max_turns: int = 12

    @property
    def size(self) -> int:
        """Tasks a policy plays at one temperature."""
        return sum(self.environments.values())


def named(name: str, n: int, *, seed: int | None = None, temperatures: tuple[float, ...] = (0.0, 1.0)) -> Suite:
    """A suite by its name: `heldout` is every environment that ships, an environment's name is that one alone.

    `n` is the number of tasks of each environment.

    Raises:
        FlywheelError: when there is no suite of that name.
    """
    from flywheel import environments

    known = environments.names()
    if name not in {"heldout", *known}:
        raise FlywheelError(f"there is no suite {name!r}; there are: heldout, {', '.join(known)}")
    chosen = known if name == "heldout" else (name,)
    suite = Suite(name=name, environments=dict.fromkeys(chosen, n), temperatures=temperatures)
    return suite if seed is None else msgspec.structs.replace(suite, seed=seed)


def environment_of(name: str) -> Environment:
    """An environment that ships, by its name."""
    from flywheel import environments

    return environments.get(name)


def run(
    suite: Suite,
    actor: Actor,
    *,
    temperature: float = 0.0,
    seed: int | None = None,
    digest: str = "",
    cache: Path | None = None,
    lookup: Lookup = environment_of,
    progress: Callable[[int], None] | None = None,
) -> pa.Table:
    """Play a suite at one temperature: a table of `RESULTS`, one row a task, in the suite's order.

    `digest` names the actor's weights; the actor's version stands in where it is empty. With a `cache` folder
    (`home.evaluations`), every `PART` tasks are written when played: a killed run goes on from there, a finished
    one is read back. `seed` (the suite's, unless given) draws the samples. `progress` is told the tasks that
    have ended.
    """
    seed = suite.seed if seed is None else seed
    identity = digest or f"{actor.name}@{actor.version}"
    parts: list[pa.Table] = []
    ended = 0
    for environment, tasks, key in _parts(suite, lookup, identity, temperature, seed):
        path = cache / identity_folder(identity) / f"{key}.parquet" if cache else None
        if path and path.exists():
            part = pq.read_table(path)
        else:
            base = ended
            episodes = play(
                environment,
                tasks,
                actor,
                temperature=temperature,
                seed=seed + ended,
                max_turns=suite.max_turns,
                batch=PART,
                progress=None if progress is None else lambda n, base=base: progress(base + n),
            )
            part = rows(environment, episodes, temperature=temperature, seed=seed)
            if path:
                artifacts.write_parquet(path, part)
        ended += len(tasks)
        if progress:
            progress(ended)
        parts.append(part)
    played = pa.concat_tables(parts) if parts else UNNAMED.empty_table()
    return played.add_column(0, RESULTS.field("policy"), pa.array([actor.name] * len(played), pa.string()))


def identity_folder(identity: str) -> str:
    """The folder of one policy's parts: its identity, as a safe name."""
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def _parts(
    suite: Suite, lookup: Lookup, identity: str, temperature: float, seed: int
) -> Iterator[tuple[Environment, list[Task], str]]:
    """The suite in pieces of at most `PART` tasks; the key is a digest of all that the rows depend on."""
    played = 0
    for name in sorted(suite.environments):
        environment = lookup(name)
        tasks = environment.tasks(suite.split, suite.environments[name], suite.seed)
        for start in range(0, len(tasks), PART):
            piece = tasks[start : start + PART]
            facts = [identity, name, environment.checker_version, temperature, seed + played, suite.max_turns]
            facts.append(msgspec.to_builtins(piece))
            yield environment, piece, hashlib.sha256(canonical_json(facts).encode()).hexdigest()[:32]
            played += len(piece)


def shown(suite: Suite, lookup: Lookup = environment_of) -> pa.Table:
    """What a suite tells the policy: task_id, task_group and text of each task, for an audit of training rows."""
    tasks = [
        task
        for name in sorted(suite.environments)
        for task in lookup(name).tasks(suite.split, suite.environments[name], suite.seed)
    ]
    return pa.table(
        {
            "task_id": pa.array([t.id for t in tasks], pa.string()),
            "task_group": pa.array([t.group for t in tasks], pa.string()),
            "text": pa.array([t.prompt for t in tasks], pa.string()),
        }
    )
