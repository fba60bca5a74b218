"""Successful paths of trees, and successful episodes, as trajectories: what rejection sampling trains on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from flywheel.rollout.tree import steps_to
from flywheel.schema import Trajectory, stable_id, trajectories_table

if TYPE_CHECKING:
    import networkx as nx

# Paths are made, not captured: they have no day of arrival. A constant keeps equal trees' files equal.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def successful(trees: Sequence[nx.DiGraph]) -> pa.Table:
    """Each path from a root to a successful end, once, as rows of `TRAJECTORIES`."""
    return trajectories_table(
        [
            Trajectory(
                id=stable_id(tree.graph["tree_id"], str(node)),
                workspace="rollout",
                task_id=tree.graph["task_id"],
                task_group=tree.graph["task_group"],
                task_type=tree.graph["environment"],
                agent=tree.graph["actor"],
                tools=tree.graph["tools"],
                end_state="completed",
                arrived_at=NEVER,
                source=f"tree:{tree.graph['tree_id']}",
                steps=steps_to(tree, node),
            )
            for tree in trees
            for node in sorted(tree)
            if tree.nodes[node]["success"]
        ]
    )
