"""Preference pairs: one chosen and one rejected step from the same state, for the branch points that pass the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flywheel.preferences.backup import Value, backup
from flywheel.preferences.gates import Choice, Gates, judge
from flywheel.rollout.tree import actions, steps_to
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
        rows += of_tree(tree, gates)
    surplus = _surplus([row for row in rows if row["reason"] == KEPT], gates.decision_share)
    for row in rows:
        if row["pair_id"] in surplus:
            row["reason"] = "enough of this decision"
    return pa.Table.from_pylist(rows, schema=BRANCHES)


def of_tree(tree: nx.DiGraph, gates: Gates) -> list[dict[str, Any]]:
    """As `branches`, of one tree and without looking at others: rows of `BRANCHES`.

    Beside its columns, that of a pair has the nodes of its steps as `chosen_node` and `rejected_node`.
    """
    values = backup(tree)
    rows = [_row(tree, values, node, gates) for node in sorted(tree) if actions(tree, node)]
    chosen = sorted((r for r in rows if r["reason"] == KEPT), key=lambda r: (-r["margin"], r["node_id"]))
    for row in chosen[gates.per_task :]:
        row["reason"] = "enough of this task"
    return rows


def pairs(trees: Sequence[nx.DiGraph], gates: Gates) -> pa.Table:
    """The pairs that pass the gates, as rows of `PAIRS`."""
    return kept(branches(trees, gates))


def kept(table: pa.Table) -> pa.Table:
    """The pairs among branch points."""
    return table.filter(pa.array([reason == KEPT for reason in table["reason"].to_pylist()], pa.bool_())).select(
        PAIRS.names
    )


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
        "chosen_node": found.chosen,
        "rejected_node": found.rejected,
    }


def label(step: Step) -> str:
    """What a step does, in short: the tools it calls, or the first word of what it says."""
    if step.tool_calls:
        return "+".join(call.name for call in step.tool_calls)
    words = (step.content or "").split()
    return f"say {words[0].strip('.,:;!?')}" if words else "say nothing"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def balanced(table: pa.Table, share: float) -> pa.Table:
    """Pairs of which no decision makes up more than its share, in the order given.

    Lopsided pairs teach a habit, not a choice. The pairs with the largest margins stay. The share is one of all pairs
    given, so that the order in which decisions are capped does not matter.
    """
    dropped = _surplus(table.select(["pair_id", "decision", "margin"]).to_pylist(), share)
    return table.filter(pa.array([pair_id not in dropped for pair_id in table["pair_id"].to_pylist()], pa.bool_()))


def _surplus(rows: list[dict[str, Any]], share: float) -> set[str]:
    """The ids of the pairs that are too many of their decision."""
    cap = max(1, int(share * len(rows)))
    seen: Counter[str] = Counter()
    surplus: set[str] = set()
    for row in sorted(rows, key=lambda r: (-r["margin"], r["pair_id"])):
        seen[row["decision"]] += 1
        if seen[row["decision"]] > cap:
            surplus.add(row["pair_id"])
    return surplus
