"""Files of the data folder as SQL relations, with the same columns where there is no file yet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from flywheel import warehouse

# Names that begin with a dot are writes under way.
WHOLE = "[!.]*"

MANIFESTS = {
    "name": "VARCHAR",
    "version": "INTEGER",
    "digest": "VARCHAR",
    "as_of": "TIMESTAMPTZ",
    "created_at": "TIMESTAMPTZ",
    "candidates": "BIGINT",
    "rows": "BIGINT",
    "reasons": "JSON",
    "splits": "JSON",
    "branch": "VARCHAR",
    "parents": "INTEGER[]",
    "recipe": "JSON",
}
PAIRS = {
    "pair_id": "VARCHAR",
    "tree_id": "VARCHAR",
    "node_id": "INTEGER",
    "task_id": "VARCHAR",
    "task_group": "VARCHAR",
    "environment": "VARCHAR",
    "prompt": "VARCHAR",
    "tools": "VARCHAR",
    "chosen": "VARCHAR",
    "rejected": "VARCHAR",
    "chosen_value": "DOUBLE",
    "rejected_value": "DOUBLE",
    "margin": "DOUBLE",
    "probability": "DOUBLE",
    "weight": "DOUBLE",
    "decision": "VARCHAR",
}
TREES = {
    "tree_id": "VARCHAR",
    "task_id": "VARCHAR",
    "task_group": "VARCHAR",
    "environment": "VARCHAR",
    "tools": "VARCHAR",
    "actor": "VARCHAR",
    "samples": "INTEGER",
}
NODES = {
    "tree_id": "VARCHAR",
    "node": "INTEGER",
    "parent": "INTEGER",
    "depth": "INTEGER",
    "step": "VARCHAR",
    "observations": "VARCHAR",
    "hash": "VARCHAR",
    "logprob": "DOUBLE",
    "tokens": "INTEGER",
    "multiplicity": "INTEGER",
    "terminal": "BOOLEAN",
    "success": "BOOLEAN",
    "credit": "DOUBLE",
}
REPORTS = {
    "id": "VARCHAR",
    "created_at": "TIMESTAMPTZ",
    "corpus": "VARCHAR",
    "candidate": "VARCHAR",
    "champion": "VARCHAR",
    "success": "JSON",
    "comparisons": "JSON",
    "tables": "JSON",
}
CYCLE = {
    "key": "VARCHAR",
    "stage": "VARCHAR",
    "started_at": "TIMESTAMPTZ",
    "seconds": "DOUBLE",
    "cpu_seconds": "DOUBLE",
}


def parquet(root: Path, pattern: str, columns: dict[str, str]) -> str:
    """Parquet files below a folder."""
    if not any(root.glob(pattern)):
        return nothing(columns)
    return f"read_parquet({text(root / pattern)}, hive_partitioning=false, union_by_name=true)"


def json(root: Path, pattern: str, columns: dict[str, str]) -> str:
    """JSON files below a folder, one object a file; fields that are not among the columns are left out."""
    if not any(root.glob(pattern)):
        return nothing(columns)
    types = ", ".join(f'"{name}": {text(kind)}' for name, kind in columns.items())
    return f"read_json({text(root / pattern)}, columns={{{types}}}, format='unstructured')"


def objects(root: Path, pattern: str) -> str:
    """JSON files below a folder, each whole in the column `json`, with its `filename`."""
    if not any(root.glob(pattern)):
        return nothing({"filename": "VARCHAR", "json": "JSON"})
    return f"read_json_objects({text(root / pattern)}, format='unstructured', filename=true)"


def nothing(columns: dict[str, str]) -> str:
    """A relation of these columns and no rows."""
    nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
    return f"(SELECT {nulls} WHERE false)"


def nothing_of(schema: pa.Schema) -> str:
    """A relation of an Arrow schema's columns and no rows."""
    return warehouse.scan_sql(Path("/nowhere"), schema)


def text(value: object) -> str:
    """A SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"
