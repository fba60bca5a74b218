"""Rollout trees: at each state several sampled actions, each carried out on a fork of the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.environments.protocol import Act, Actor, Environment, Situation, State, Task, opening
from flywheel.schema import Step, canonical_json, stable_id

if TYPE_CHECKING:
    import networkx as nx

ROOT = 0


class TreeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far trees branch.

    `width` steps are sampled at a state while the tree has fewer than `max_nodes` nodes; after that each open state
    is followed by single samples, so that every path has an end and a verdict. A path ends after `max_depth` steps
    at the latest. `together` trees grow at once, their frontiers in one batch.
    """

    width: int = 4
    temperature: float = 1.0
    max_nodes: int = 40
    max_depth: int = 8
    together: int = 64


def grow(
    environment: Environment,
    tasks: Sequence[Task],
    actor: Actor,
    config: TreeConfig,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[nx.DiGraph]:
    """One tree a task; `progress` is told how many tasks are done.

    Graph attributes: tree_id, task_id, task_group, environment, tools (JSON), actor, samples (steps sampled in all).
    Node attributes: step (None at the root), observations (what followed the step; at the root the opening of the
    task), depth, hash, logprob, tokens, multiplicity (how many sampled siblings were this one), terminal, and at
    leaves success and credit (None elsewhere).
    """
    trees: list[nx.DiGraph] = []
    for start in range(0, len(tasks), config.together):
        trees += _grow_together(environment, tasks[start : start + config.together], actor, config, seed + start)
        if progress:
            progress(len(trees))
    return trees


def path_to(tree: nx.DiGraph, node: int) -> list[int]:
    """The nodes from the root to a node, both with it."""
    path = [node]
    while path[-1] != ROOT:
        path.append(next(iter(tree.predecessors(path[-1]))))
    return path[::-1]


def steps_to(tree: nx.DiGraph, node: int) -> tuple[Step, ...]:
    """All steps from the opening of the task up to and including what followed a node's step."""
    steps: list[Step] = []
    for found in map(tree.nodes.__getitem__, path_to(tree, node)):
        steps += (found["step"], *found["observations"]) if found["step"] else found["observations"]
    return tuple(steps)


def actions(tree: nx.DiGraph, node: int) -> list[int]:
    """The children of a node that are steps, in order; a captured tree has others (`preferences.captured`)."""
    return [child for child in sorted(tree.successors(node)) if tree.nodes[child]["step"]]


def _grow_together(
    environment: Environment, tasks: Sequence[Task], actor: Actor, config: TreeConfig, seed: int
) -> list[nx.DiGraph]:
    trees = [_root(environment, task, actor, seed) for task in tasks]
    states: list[dict[int, State]] = [{ROOT: environment.reset(task)} for task in tasks]
    for depth in range(config.max_depth):
        # Trees under their budget branch; the others only bring their open paths to an end.
        widths = [config.width if len(tree) < config.max_nodes else 1 for tree in trees]
        for n in sorted(set(widths), reverse=True):
            open_nodes = [
                (i, node)
                for i, tree in enumerate(trees)
                if widths[i] == n
                for node, state in states[i].items()
                if tree.nodes[node]["depth"] == depth and not state.done
            ]
            if not open_nodes:
                continue
            situations = [Situation(tasks[i], steps_to(trees[i], node)) for i, node in open_nodes]
            drawn = actor.act(situations, n=n, temperature=config.temperature, seed=(seed * 101 + depth) * 2 + (n == 1))
            for (i, node), acts in zip(open_nodes, drawn, strict=True):
                trees[i].graph["samples"] += n
                _expand(trees[i], node, states[i], acts)
    for tree, known in zip(trees, states, strict=True):
        for node, state in known.items():
            if tree.out_degree(node) == 0:
                verdict = state.score()
                tree.nodes[node].update(success=verdict.success, credit=verdict.credit, terminal=state.done)
    return trees


def _root(environment: Environment, task: Task, actor: Actor, seed: int) -> nx.DiGraph:
    import networkx as nx

    tree = nx.DiGraph(
        tree_id=stable_id(environment.name, task.id, actor.name, actor.version, str(seed)),
        task_id=task.id,
        task_group=task.group,
        environment=environment.name,
        tools=canonical_json(environment.tools),
        actor=f"{actor.name}@{actor.version}",
        samples=0,
    )
    _add(tree, 0, None, opening(task), environment.reset(task).hash())
    return tree


def _add(tree: nx.DiGraph, depth: int, act: Act | None, observations: tuple[Step, ...], digest: str) -> int:
    node = len(tree)
    tree.add_node(
        node,
        step=act.step if act else None,
        observations=observations,
        depth=depth,
        hash=digest,
        logprob=act.logprob if act else 0.0,
        tokens=act.tokens if act else 0,
        multiplicity=1,
        terminal=False,
        success=None,
        credit=None,
    )
    return node


def _expand(tree: nx.DiGraph, node: int, states: dict[int, State], acts: Sequence[Act]) -> None:
    """Carry out sampled steps on forks; those that write the same, or see and leave the same, become one child."""
    by_text: dict[str, int] = {}
    by_result: dict[tuple[Any, ...], int] = {}
    for act in acts:
        text = canonical_json([act.step.content, [(c.name, c.arguments) for c in act.step.tool_calls]])
        if text in by_text:
            tree.nodes[by_text[text]]["multiplicity"] += 1
            continue
        state = states[node].fork()
        observations = state.step(act.step)
        result = (state.hash(), *(o.content for o in observations))
        if result in by_result:
            tree.nodes[by_result[result]]["multiplicity"] += 1
        else:
            child = _add(tree, tree.nodes[node]["depth"] + 1, act, observations, result[0])
            tree.add_edge(node, child)
            states[child] = state
            by_result[result] = child
        by_text[text] = by_result[result]
