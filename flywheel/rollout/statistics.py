"""What trees cost and hold: nodes, duplicates, informative branch points, a node's cost beside a lone step's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from flywheel.environments.protocol import Actor, Environment, Task
from flywheel.rollout.episode import play

if TYPE_CHECKING:
    import networkx as nx


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and CPU seconds of growing trees.

    `samples`: steps that were sampled; `nodes`: those that remained distinct, roots left out; `duplicates`: the
    share of samples that were merged. `branch_points`: nodes from which more than one step was sampled;
    `informative`: those whose children's outcomes differ. `single_step_cpu_ms`: CPU of one step of a rollout that
    is played alone, with the same actor in the same process; `node_cost`: CPU of a node as a share of that.
    """

    trees: int
    nodes: int
    samples: int
    duplicates: float
    branch_points: int
    informative: int
    cpu_seconds: float
    nodes_per_cpu_second: float
    node_cpu_ms: float
    single_step_cpu_ms: float
    node_cost: float


def statistics(trees: Sequence[nx.DiGraph], cpu_seconds: float, single_step_cpu_ms: float) -> Statistics:
    """The statistics of trees that took `cpu_seconds` to grow."""
    nodes = sum(len(tree) - 1 for tree in trees)
    samples = sum(tree.graph["samples"] for tree in trees)
    branch_points = informative = 0
    for tree in trees:
        ends = _ends(tree)
        for node in tree:
            drawn = sum(tree.nodes[child]["multiplicity"] for child in tree.successors(node))
            branch_points += drawn > 1
            informative += len({frozenset(ends[child]) for child in tree.successors(node)}) > 1
    node_ms = 1000 * cpu_seconds / max(1, nodes)
    return Statistics(
        trees=len(trees),
        nodes=nodes,
        samples=samples,
        duplicates=1 - nodes / max(1, samples),
        branch_points=branch_points,
        informative=informative,
        cpu_seconds=cpu_seconds,
        nodes_per_cpu_second=nodes / max(1e-9, cpu_seconds),
        node_cpu_ms=node_ms,
        single_step_cpu_ms=single_step_cpu_ms,
        node_cost=node_ms / max(1e-9, single_step_cpu_ms),
    )


def single_step_cpu_ms(environment: Environment, tasks: Sequence[Task], actor: Actor, seed: int) -> float:
    """CPU milliseconds of one step when episodes are played one by one, at temperature 1."""
    began = time.process_time()
    episodes = play(environment, tasks, actor, temperature=1.0, seed=seed, batch=1)
    steps = sum(step.role == "assistant" for episode in episodes for step in episode.steps)
    return 1000 * (time.process_time() - began) / max(1, steps)


def _ends(tree: nx.DiGraph) -> dict[int, set[bool]]:
    """Which outcomes were reached below each node."""
    ends: dict[int, set[bool]] = {}
    # A child is always numbered after its parent.
    for node in sorted(tree, reverse=True):
        children = list(tree.successors(node))
        ends[node] = set().union(*(ends[c] for c in children)) if children else {bool(tree.nodes[node]["success"])}
    return ends
