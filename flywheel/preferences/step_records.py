"""Step records: every sampled step with its advantage, as on-policy step-level optimisers read them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flywheel.preferences.backup import Value, backup
from flywheel.rollout.tree import path_to, steps_to

if TYPE_CHECKING:
    import networkx as nx

STEP_RECORDS = pa.schema(
    [
        ("trajectory_uid", pa.string()),
        ("step_index", pa.int32()),
        # Steps that were sampled from one and the same state share a group.
        ("group", pa.string()),
        ("task_id", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("tools", pa.string()),
        ("step_reward", pa.float64()),
        # The value of the state before the step, and of the one it led to.
        ("value", pa.float64()),
        ("next_value", pa.float64()),
        ("advantage", pa.float64()),
        ("multiplicity", pa.int32()),
        ("old_logprob", pa.float64()),
    ]
)


def step_records(trees: Sequence[nx.DiGraph]) -> pa.Table:
    """One row for each path from a root to an end and each step on it, in order.

    The state is all steps so far, the action is the whole response (StepPO, arXiv 2604.18401). The reward of a step
    is the credit of the end that it reaches, 0 before; values are mean credits backed up over the tree; the advantage
    is the one-step difference r + V(next) - V(state), undiscounted, and not yet whitened.
    """
    rows: list[dict[str, Any]] = []
    for tree in trees:
        values = backup(tree)
        rows += [row for end in sorted(tree) if not tree.out_degree(end) for row in _path(tree, values, end)]
    return pa.Table.from_pylist(rows, schema=STEP_RECORDS)


def _path(tree: nx.DiGraph, values: dict[int, Value], end: int) -> list[dict[str, Any]]:
    return [_record(tree, values, end, index, *pair) for index, pair in enumerate(pairwise(path_to(tree, end)))]


def _record(
    tree: nx.DiGraph, values: dict[int, Value], end: int, index: int, state: int, reached: int
) -> dict[str, Any]:
    found = tree.nodes[reached]
    reward = values[reached].credit if reached == end else 0.0
    following = 0.0 if reached == end else values[reached].credit
    return {
        "trajectory_uid": f"{tree.graph['tree_id']}/{end}",
        "step_index": index,
        "group": f"{tree.graph['tree_id']}/{state}",
        "task_id": tree.graph["task_id"],
        "prompt": msgspec.json.encode(steps_to(tree, state)).decode(),
        "response": msgspec.json.encode(found["step"]).decode(),
        "tools": tree.graph["tools"],
        "step_reward": reward,
        "value": values[state].credit,
        "next_value": following,
        "advantage": reward + following - values[state].credit,
        "multiplicity": found["multiplicity"],
        "old_logprob": found["logprob"],
    }
