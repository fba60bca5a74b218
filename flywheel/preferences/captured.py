"""Captured trees: what several trajectories of one task have in common, as a tree to find preferences in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec

from flywheel.curate.digests import canonical_text
from flywheel.preferences.backup import backup
from flywheel.rollout.tree import ROOT, path_to
from flywheel.schema import Step, Trajectory, canonical_json, stable_id
from flywheel.views import trl

if TYPE_CHECKING:
    import networkx as nx


class Judged(msgspec.Struct, frozen=True):
    """A trajectory and what its end is worth: whether it succeeded, and its credit (the reward, else the success)."""

    trajectory: Trajectory
    success: bool
    credit: float


class Act(msgspec.Struct, frozen=True):
    """A step of the agent, and what followed it until its next."""

    step: Step
    observations: tuple[Step, ...]


def opening(trajectory: Trajectory) -> tuple[Step, ...]:
    """What was said before the agent's first step."""
    first = next((i for i, step in enumerate(trajectory.steps) if step.role == "assistant"), len(trajectory.steps))
    return trajectory.steps[:first]


def trees(judged: Sequence[Judged]) -> list[nx.DiGraph]:
    """One tree for each opening and offer of tools among trajectories of one task, as `rollout.tree.grow` gives them.

    Trajectories are one path for as long as they do and see the same: the calls (where there are none, the words) of
    each step, and what followed it. Where one action was followed by different things, each of these is a child
    without a step, so that the action is worth what it led to on the whole. So is an end from which others went on.

    Beside the attributes of a tree, each node has `trajectories`, the ids of those that came through it. A leaf's
    success and credit are means over its trajectories; `multiplicity` is their number; nobody knows log-probabilities.
    """
    found = _grouped(judged, lambda one: (one.trajectory.tools, tuple(_seen(s) for s in opening(one.trajectory))))
    return [_tree(group) for group in found]


def step_records(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The steps of captured trajectories of one task, each trajectory's own, in order.

    They are rows of `step_records.STEP_RECORDS`, but that prompt and response are chat messages (`trl.messages`).

    The states that trajectories share are groups, and values are means over them: GiGPO's groups of steps from equal
    states (arXiv 2505.10978), with the one-step difference of `step_records.step_records` as the advantage.
    `trajectory_uid` is the trajectory's id; `old_logprob` is the sum of the tokens' where the capture has them.
    """
    by_id = {one.trajectory.id: one for one in judged}
    rows: list[dict[str, Any]] = []
    for tree in trees(judged):
        values = backup(tree)
        leaves = {id: node for node in tree if not tree.out_degree(node) for id in tree.nodes[node]["trajectories"]}
        for id in sorted(leaves):
            one, path = by_id[id], path_to(tree, leaves[id])
            messages = trl.messages(one.trajectory.steps)
            taken = [place for place, node in enumerate(path) if tree.nodes[node]["step"]]
            said = [place for place, step in enumerate(one.trajectory.steps) if step.role == "assistant"]
            for index, (place, following) in enumerate(pairwise([*taken, len(path)])):
                state, reached, last = path[place - 1], path[following - 1], following == len(path)
                value = values[state].credit
                reward, after = (one.credit, 0.0) if last else (0.0, values[reached].credit)
                rows.append(
                    {
                        "trajectory_uid": id,
                        "step_index": index,
                        "group": f"{tree.graph['tree_id']}/{state}",
                        "task_id": one.trajectory.task_id,
                        "prompt": messages[: said[index]],
                        "response": messages[said[index]],
                        "tools": one.trajectory.tools,
                        "step_reward": reward,
                        "value": value,
                        "next_value": after,
                        "advantage": reward + after - value,
                        "multiplicity": 1,
                        "old_logprob": _logprob(one.trajectory.steps[said[index]]),
                    }
                )
    return rows


def _tree(group: Sequence[Judged]) -> nx.DiGraph:
    import networkx as nx

    first, began = group[0].trajectory, opening(group[0].trajectory)
    begins = canonical_json([first.tools, [_seen(step) for step in began]])
    tree = nx.DiGraph(
        tree_id=stable_id(first.workspace, first.task_id, begins),
        task_id=first.task_id,
        task_group=first.task_group,
        environment=first.task_type,
        tools=first.tools,
        actor="",
        samples=len(group),
    )
    acts = {one.trajectory.id: _acts(one.trajectory) for one in group}
    _add(tree, None, group, None, began, 0)
    waiting = [(ROOT, 0, group)]
    while waiting:
        node, index, here = waiting.pop()
        ended = [one for one in here if len(acts[one.trajectory.id]) == index]
        going = [one for one in here if len(acts[one.trajectory.id]) > index]
        if ended:
            end = _add(tree, node, ended, None, (), index) if going else node
            verdict = {"success": fmean(one.success for one in ended), "credit": fmean(one.credit for one in ended)}
            tree.nodes[end].update(terminal=True, **verdict)
        for alike in _grouped(going, lambda one, at=index: _done(acts[one.trajectory.id][at].step)):
            seen = _grouped(alike, lambda one, at=index: tuple(map(_seen, acts[one.trajectory.id][at].observations)))
            act = acts[alike[0].trajectory.id][index]
            if len(seen) == 1:
                waiting.append((_add(tree, node, alike, act.step, act.observations, index + 1), index + 1, alike))
                continue
            child = _add(tree, node, alike, act.step, (), index + 1)
            for some in seen:
                followed = acts[some[0].trajectory.id][index].observations
                waiting.append((_add(tree, child, some, None, followed, index + 1), index + 1, some))
    return tree


def _add(
    tree: nx.DiGraph,
    parent: int | None,
    through: Sequence[Judged],
    step: Step | None,
    observations: tuple[Step, ...],
    depth: int,
) -> int:
    node = len(tree)
    tree.add_node(
        node,
        step=step,
        observations=observations,
        depth=depth,
        # Two actions are two states, as far as anybody can tell.
        hash=stable_id(str(parent), str(node)),
        logprob=0.0,
        tokens=0,
        multiplicity=len(through),
        terminal=False,
        success=None,
        credit=None,
        trajectories=tuple(one.trajectory.id for one in through),
    )
    if parent is not None:
        tree.add_edge(parent, node)
    return node


def _acts(trajectory: Trajectory) -> list[Act]:
    places = [place for place, step in enumerate(trajectory.steps) if step.role == "assistant"]
    ends = [*places[1:], len(trajectory.steps)]
    return [
        Act(trajectory.steps[a], trajectory.steps[a + 1 : b]) for a, b in zip(places, ends[: len(places)], strict=True)
    ]


def _grouped(judged: Iterable[Judged], key: Any) -> list[list[Judged]]:
    """Those of one key together, in the order in which the first of each came."""
    found: dict[Hashable, list[Judged]] = {}
    for one in judged:
        found.setdefault(key(one), []).append(one)
    return list(found.values())


def _done(step: Step) -> Hashable:
    """What a step does: its calls, in order; without one, its words."""
    return tuple((call.name, canonical_text(call.arguments)) for call in step.tool_calls) or step.content or ""


def _seen(step: Step) -> Hashable:
    return step.role, step.content or "", step.tool_name or "", bool(step.is_error)


def _logprob(step: Step) -> float | None:
    """The sum over the tokens of a step, as OpenAI-like servers tell them; None where there are none."""
    told = msgspec.json.decode(step.metadata).get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else told
    if not isinstance(tokens, list) or not tokens:
        return None
    known = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    numbers = [value for value in known if isinstance(value, int | float) and not isinstance(value, bool)]
    return float(sum(numbers)) if len(numbers) == len(known) else None
