"""A forest: trees over tasks of several environments, grown once and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from flywheel import artifacts, environments
from flywheel.environments.protocol import Actor
from flywheel.rollout import storage
from flywheel.rollout.statistics import Statistics, single_step_cpu_ms, statistics
from flywheel.rollout.tree import TreeConfig, grow

if TYPE_CHECKING:
    import networkx as nx


class Forest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which trees to grow: `tasks` in all, shared evenly over environments, from training templates alone.

    `alone` tasks of each environment are also played one by one, to have the cost of a step without trees beside
    that of a node.
    """

    environments: tuple[str, ...]
    tasks: int = 600
    seed: int = 0
    tree: TreeConfig = TreeConfig()
    alone: int = 20


def plant(folder: Path, actor: Actor, forest: Forest, progress: Callable[[int], None] | None = None) -> Statistics:
    """Grow a forest into a folder, or find it grown there by the same actor; `progress` is told of tasks done.

    What another actor or other settings grew there is replaced.

    Raises:
        FlywheelError: when an environment is unknown.
    """
    grower = f"{actor.name}@{actor.version}"
    if (folder / artifacts.MANIFEST).is_file():
        known = msgspec.json.decode((folder / "stats.json").read_bytes(), type=About)
        if (known.actor, known.forest) == (grower, forest):
            return known.statistics
    trees: list[nx.DiGraph] = []
    seconds = step_ms = 0.0
    for position, name in enumerate(forest.environments):
        environment = environments.get(name)
        count = forest.tasks // len(forest.environments) + (position < forest.tasks % len(forest.environments))
        tasks = environment.tasks("train", count, forest.seed)
        before = len(trees)
        began = time.process_time()
        tell = (lambda done, before=before: progress(before + done)) if progress else None
        trees += grow(environment, tasks, actor, forest.tree, forest.seed, tell)
        seconds += time.process_time() - began
        step_ms += single_step_cpu_ms(environment, tasks[: forest.alone], actor, forest.seed)
    found = statistics(trees, seconds, step_ms / max(1, len(forest.environments)))
    storage.save(folder, trees, About(actor=grower, forest=forest, statistics=found))
    return found


class About(msgspec.Struct, frozen=True):
    """What stats.json says of a forest."""

    actor: str
    forest: Forest
    statistics: Statistics
