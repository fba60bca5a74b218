"""Trees at rest: a row a tree and a row a node in Parquet, and the statistics of growing them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.schema import FlywheelError, Step, canonical_json

if TYPE_CHECKING:
    import networkx as nx

TREES = pa.schema(
    [
        ("tree_id", pa.string()),
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("environment", pa.string()),
        ("tools", pa.string()),
        ("actor", pa.string()),
        ("samples", pa.int32()),
    ]
)

NODES = pa.schema(
    [
        ("tree_id", pa.string()),
        ("node", pa.int32()),
        ("parent", pa.int32()),
        ("depth", pa.int32()),
        # The step that led here and what followed it, as JSON text; the root has no step.
        ("step", pa.string()),
        ("observations", pa.string()),
        ("hash", pa.string()),
        ("logprob", pa.float64()),
        ("tokens", pa.int32()),
        ("multiplicity", pa.int32()),
        ("terminal", pa.bool_()),
        ("success", pa.bool_()),
        ("credit", pa.float64()),
    ]
)

# Columns of NODES that a node carries as they are.
PLAIN = ("depth", "hash", "logprob", "tokens", "multiplicity", "terminal", "success", "credit")


def save(folder: Path, trees: Sequence[nx.DiGraph], about: msgspec.Struct) -> str:
    """Write trees.parquet, nodes.parquet, stats.json (`about`: what else is known of them) and, last, a manifest.

    Returns the digest of what was grown: SHA-256 over all nodes; costs and times are no part of it.
    """
    nodes = pa.Table.from_pylist([row for tree in trees for row in _nodes(tree)], schema=NODES)
    heads = pa.Table.from_pylist([dict(tree.graph) for tree in trees], schema=TREES)
    digest = hashlib.sha256(canonical_json([heads.to_pylist(), nodes.to_pylist()]).encode()).hexdigest()
    with artifacts.folder(folder) as beside:
        artifacts.write_parquet(beside / "trees.parquet", heads)
        artifacts.write_parquet(beside / "nodes.parquet", nodes)
        artifacts.write_json(beside / "stats.json", about)
        artifacts.write_json(beside / artifacts.MANIFEST, {"digest": digest, "trees": len(trees), "nodes": len(nodes)})
    return digest


def load(folder: Path) -> list[nx.DiGraph]:
    """Trees as they were grown.

    Raises:
        FlywheelError: when the folder holds none.
    """
    import networkx as nx

    if not (folder / artifacts.MANIFEST).is_file():
        raise FlywheelError(f"there are no rollout trees in {folder}; grow some with `flywheel rollout`")
    trees = {row["tree_id"]: nx.DiGraph(**row) for row in pq.read_table(folder / "trees.parquet").to_pylist()}
    for row in pq.read_table(folder / "nodes.parquet").to_pylist():
        tree = trees[row["tree_id"]]
        step = msgspec.json.decode(row["step"], type=Step) if row["step"] else None
        observations = msgspec.json.decode(row["observations"], type=tuple[Step, ...])
        tree.add_node(row["node"], step=step, observations=observations, **{name: row[name] for name in PLAIN})
        if row["parent"] is not None:
            tree.add_edge(row["parent"], row["node"])
    return list(trees.values())


def _nodes(tree: nx.DiGraph) -> list[dict[str, Any]]:
    return [
        {name: found[name] for name in PLAIN}
        | {
            "tree_id": tree.graph["tree_id"],
            "node": node,
            "parent": next(iter(tree.predecessors(node)), None),
            "step": msgspec.json.encode(found["step"]).decode() if found["step"] else None,
            "observations": msgspec.json.encode(found["observations"]).decode(),
        }
        for node, found in tree.nodes(data=True)
    ]
