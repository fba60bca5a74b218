"""Values of a tree's nodes: the mean of what was reached, backed up from the leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import networkx as nx


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node: the policy's chance of success and mean partial credit from here on.

    `visits` counts the sampled ends below (a leaf that was sampled three times counts three). Variances are
    those of a single end's success and credit.
    """

    success: float
    credit: float
    visits: int
    success_variance: float
    credit_variance: float


def backup(tree: nx.DiGraph) -> dict[int, Value]:
    """The value of each node: at a leaf its verdict, elsewhere the mean over children.

    A child weighs as often as it was sampled, not by the number of its leaves, so that the mean estimates the
    policy's own value wherever expansion was uneven. The maximum would prefer what was expanded more.
    """
    import networkx as nx

    # By node: mean success, mean credit, mean squared credit, visits. A success is its own square.
    moments: dict[int, tuple[float, float, float, int]] = {}
    for node in reversed(list(nx.topological_sort(tree))):
        found = tree.nodes[node]
        children = sorted(tree.successors(node))
        if not children:
            credit = float(found["credit"])
            moments[node] = (float(found["success"]), credit, credit * credit, found["multiplicity"])
            continue
        weights = [tree.nodes[child]["multiplicity"] for child in children]
        total = sum(weights)
        means = [
            sum(w * moments[child][k] for w, child in zip(weights, children, strict=True)) / total for k in range(3)
        ]
        moments[node] = (means[0], means[1], means[2], sum(moments[child][3] for child in children))
    return {
        node: Value(
            success=success,
            credit=credit,
            visits=visits,
            success_variance=success * (1 - success),
            credit_variance=max(0.0, square - credit * credit),
        )
        for node, (success, credit, square, visits) in sorted(moments.items())
    }
