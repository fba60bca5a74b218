"""Pairs at rest: the kept ones, every branch point with its reason, and counts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import PAIRS, kept, reasons
from flywheel.schema import FlywheelError, canonical_json
from flywheel.settings import Home


def save(folder: Path, table: pa.Table, gates: Gates) -> dict[str, Any]:
    """Write pairs.parquet, branches.parquet and, last, a manifest, which is returned.

    The manifest has the digest of the pairs, their number, the number of branch points, and the reasons: every
    branch point is a pair, or was dropped for one of them.
    """
    chosen = kept(table)
    by_decision = chosen.group_by("decision", use_threads=False).aggregate([([], "count_all")]).to_pylist()
    manifest = {
        "digest": hashlib.sha256(canonical_json(chosen.to_pylist()).encode()).hexdigest(),
        "pairs": chosen.num_rows,
        "branch_points": table.num_rows,
        "reasons": reasons(table),
        "decisions": {row["decision"]: row["count_all"] for row in by_decision},
        "gates": gates,
    }
    with artifacts.folder(folder) as beside:
        artifacts.write_parquet(beside / "pairs.parquet", chosen)
        artifacts.write_parquet(beside / "branches.parquet", table.drop_columns(["prompt", "tools"]))
        artifacts.write_json(beside / artifacts.MANIFEST, manifest)
    return artifacts.read_json(folder / artifacts.MANIFEST)


def trees_of(home: Home, key: str) -> str:
    """The key of the trees that pairs were made of: their own; those of the command line have their gates behind it."""
    return key if (home.trees / key).is_dir() else key.rpartition("-")[0]


def load(folder: Path) -> pa.Table:
    """The pairs of a folder.

    Raises:
        FlywheelError: when it holds none.
    """
    if not (folder / artifacts.MANIFEST).is_file():
        raise FlywheelError(f"there are no pairs in {folder}; make them with `flywheel pairs`")
    return pq.read_table(folder / "pairs.parquet", schema=PAIRS)
