"""Preference pairs: one chosen and one rejected step from the same state, for the branch points that pass the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flywheel.preferences.backup import Value, backup
from flywheel.preferences.gates import Choice, Gates, judge
from flywheel.rollout.tree import steps_to
from flywheel.schema import Step, stable_id

if TYPE_CHECKING:
    import networkx as nx

KEPT = "kept"

PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("tree_id", pa.string()),
        ("node_id", pa.int32()),
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("environment", pa.string()),
        # The steps so far, the two steps and the offered tools, each as JSON text.
        ("prompt", pa.string()),
        ("tools", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        # Chances of success from the chosen and from the rejected step on.
        ("chosen_value", pa.float64()),
        ("rejected_value", pa.float64()),
        ("chosen_credit", pa.float64()),
        ("rejected_credit", pa.float64()),
        ("margin", pa.float64()),
        ("probability", pa.float64()),
        # How often both steps were sampled, at least.
        ("weight", pa.int32()),
        ("decision", pa.string()),
    ]
)

BRANCHES = pa.schema([*PAIRS, ("reason", pa.string())])


def branches(trees: Sequence[nx.DiGraph], gates: Gates) -> pa.Table:
    """One row for each state from which steps were sampled: `reason` is `kept`, or which gate it did not pass.

    Columns that describe a pair are filled where there was a choice.
    """
    rows: list[dict[str, Any]] = []
    for tree in trees:
        values = backup(tree)
        of_tree = [_row(tree, values, node, gates) for node in sorted(tree) if tree.out_degree(node)]
        chosen = sorted((r for r in of_tree if r["reason"] == KEPT), key=lambda r: (-r["margin"], r["node_id"]))
        for row in chosen[gates.per_task :]:
            row["reason"] = "enough of this task"
        rows += of_tree
    _balance(rows, gates.decision_share)
    return pa.Table.from_pylist(rows, schema=BRANCHES)


def pairs(trees: Sequence[nx.DiGraph], gates: Gates) -> pa.Table:
    """The pairs that pass the gates, as rows of `PAIRS`."""
    return kept(branches(trees, gates))


def kept(table: pa.Table) -> pa.Table:
    """The pairs among branch points."""
    return table.filter(pa.array([reason == KEPT for reason in table["reason"].to_pylist()])).select(PAIRS.names)


def reasons(table: pa.Table) -> dict[str, int]:
    """How many branch points were kept, and how many each gate dropped, by reason."""
    counts = Counter(table["reason"].to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _row(tree: nx.DiGraph, values: dict[int, Value], node: int, gates: Gates) -> dict[str, Any]:
    steps = steps_to(tree, node)
    found = judge(tree, values, node, gates, troubled=any(step.is_error for step in steps))
    row: dict[str, Any] = {name: tree.graph[name] for name in ("tree_id", "task_id", "task_group", "environment")}
    row |= {"node_id": node, "pair_id": stable_id(tree.graph["tree_id"], str(node))}
    if not isinstance(found, Choice):
        return row | {"reason": found}
    chosen, rejected = tree.nodes[found.chosen], tree.nodes[found.rejected]
    better, worse = values[found.chosen], values[found.rejected]
    return row | {
        "prompt": _json(steps),
        "tools": tree.graph["tools"],
        "chosen": _json(chosen["step"]),
        "rejected": _json(rejected["step"]),
        "chosen_value": better.success,
        "rejected_value": worse.success,
        "chosen_credit": better.credit,
        "rejected_credit": worse.credit,
        "margin": better.success - worse.success,
        "probability": found.probability,
        "weight": min(chosen["multiplicity"], rejected["multiplicity"]),
        "decision": f"{tree.graph['environment']}: {label(chosen['step'])} > {label(rejected['step'])}",
        "reason": KEPT,
    }


def label(step: Step) -> str:
    """What a step does, in short: the tools it calls, or the first word of what it says."""
    if step.tool_calls:
        return "+".join(call.name for call in step.tool_calls)
    words = (step.content or "").split()
    return f"say {words[0].strip('.,:;!?')}" if words else "say nothing"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _balance(rows: list[dict[str, Any]], share: float) -> None:
    """Keep no more of one decision than its share of all: lopsided pairs teach a habit, not a choice.

    The pairs with the largest margins stay. The cap is a share of what was kept before any was dropped for balance.
    """
    all_kept = [row for row in rows if row["reason"] == KEPT]
    cap = max(1, int(share * len(all_kept)))
    seen: Counter[str] = Counter()
    for row in sorted(all_kept, key=lambda r: (-r["margin"], r["pair_id"])):
        seen[row["decision"]] += 1
        if seen[row["decision"]] > cap:
            row["reason"] = "enough of this decision"
