"""Files of the data folder as SQL relations, with the same columns where there is no file yet."""

from __future__ import annotations

from collections.abc import Sequence
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


# The names of a folder that are looked into; None for all of them.
Names = Sequence[str] | None


def parquet(root: Path, names: Names, pattern: str, columns: dict[str, str]) -> str:
    """Parquet files of folders below a folder."""
    found = _files(root, names, pattern)
    return f"read_parquet({found}, hive_partitioning=false, union_by_name=true)" if found else nothing(columns)


def json(root: Path, names: Names, pattern: str, columns: dict[str, str]) -> str:
    """JSON files of folders below a folder, one object a file; fields that are not among the columns are left out."""
    found = _files(root, names, pattern)
    types = ", ".join(f'"{name}": {text(kind)}' for name, kind in columns.items())
    return f"read_json({found}, columns={{{types}}}, format='unstructured')" if found else nothing(columns)


def objects(root: Path, names: Names, pattern: str) -> str:
    """JSON files of folders below a folder, each whole in the column `json`, with its `filename`."""
    found = _files(root, names, pattern)
    if not found:
        return nothing({"filename": "VARCHAR", "json": "JSON"})
    return f"read_json_objects({found}, format='unstructured', filename=true)"


def _files(root: Path, names: Names, pattern: str) -> str:
    """The patterns of files of which there are some, as a SQL list; empty where there are none."""
    patterns = [f"{name}{pattern}" for name in ([WHOLE] if names is None else names)]
    there = [text(root / pattern) for pattern in patterns if any(root.glob(pattern))]
    return f"[{', '.join(there)}]" if there else ""


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
