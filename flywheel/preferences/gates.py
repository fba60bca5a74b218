"""Gates: which branch points of a tree hold a preference that is more than noise, and why the others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flywheel.preferences.backup import Value
from flywheel.rollout.tree import actions

if TYPE_CHECKING:
    import networkx as nx


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a pair must pass.

    `margin`: by how much the chance of success after the chosen step exceeds that after the rejected one.
    `probability`: how likely the chosen one must be the better one (see `better`). `edge`: branch points whose value
    is within it of 0 or 1 are settled already. `per_task` pairs at most for each task. No decision makes up more
    than `decision_share` of all pairs.
    """

    margin: float = 0.6
    probability: float = 0.8
    edge: float = 0.02
    per_task: int = 4
    decision_share: float = 0.25


class Choice(msgspec.Struct, frozen=True):
    """Two children of a branch point, and how likely the chosen one is the better one."""

    chosen: int
    rejected: int
    probability: float


def judge(tree: nx.DiGraph, values: dict[int, Value], node: int, gates: Gates, troubled: bool) -> Choice | str:
    """The choice that a branch point teaches, or the reason why it teaches none.

    The chosen step is the one with the highest chance of success (ties: more credit, then the likelier); the
    rejected one is the step that the policy takes most among those that are worse by the margin: what the policy
    hardly does need not be unlearnt. `troubled`: a tool has answered with an error on the way here.
    """
    children = actions(tree, node)
    if len(children) < 2:
        return "one action"
    if troubled:
        return "error before"
    if not gates.edge < values[node].success < 1 - gates.edge:
        return "settled"
    best = max(children, key=lambda c: (values[c].success, values[c].credit, tree.nodes[c]["logprob"], -c))
    if any(step.is_error for step in tree.nodes[best]["observations"]):
        return "error in the chosen step"
    worse = [c for c in children if values[best].success - values[c].success >= gates.margin]
    if not worse:
        return "margin"
    worse = [c for c in worse if tree.nodes[c]["hash"] != tree.nodes[best]["hash"]]
    if not worse:
        return "same state"
    usual = max(worse, key=lambda c: (tree.nodes[c]["multiplicity"], tree.nodes[c]["logprob"], -c))
    certain = [tree.out_degree(c) == 0 for c in (best, usual)]
    probability = better(values[best], values[usual], len(children), certain[0], certain[1])
    return Choice(best, usual, probability) if probability >= gates.probability else "uncertain"


def better(chosen: Value, rejected: Value, siblings: int, chosen_ended: bool, rejected_ended: bool) -> float:
    """The posterior probability that the chosen step's chance of success is the higher one.

    Each chance has a uniform prior and as many observations as it has visits; that of a step that ended the episode
    is known. Having picked the best and one of the worse among N siblings is paid for as N(N-1)/2 comparisons
    (Bonferroni), so that siblings of equal worth seldom pass.
    """
    import numpy as np
    from scipy.special import betainc

    grid = np.linspace(0.0, 1.0, 513)

    def distribution(value: Value, ended: bool) -> np.ndarray:
        if ended:
            return (grid >= value.success).astype(float)
        won = value.success * value.visits
        return betainc(1 + won, 1 + value.visits - won, grid)

    below = distribution(rejected, rejected_ended)
    mass = np.diff(distribution(chosen, chosen_ended), prepend=0.0)
    # Within a cell of the grid neither is ahead: half of it counts.
    likely = float((mass * (below - np.diff(below, prepend=0.0) / 2)).sum())
    return max(0.0, 1 - (1 - likely) * siblings * (siblings - 1) / 2)
