"""Selections: which captured rows a version consists of, and the verdict on each."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus import decisions, erased
from flywheel.corpus.manifest import Manifest
from flywheel.curate import derived, prepared
from flywheel.curate import filter as filters
from flywheel.schema import FlywheelError
from flywheel.settings import Home

SELECTED = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("content_digest", pa.string()),
        ("split", pa.string()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("state", pa.string()),
        ("row_digest", pa.string()),
    ]
)

SPLITS = ("train", "heldout")


def selected(home: Home, of: Manifest, split: str | None = None, where: str | None = None) -> pa.Table:
    """The rows that a version keeps, without their content: rows of `SELECTED`, ordered by trajectory_id.

    Those that were erased since it was made are not among them. `split` takes one side; `where` is a SQL condition on
    `filter.COLUMNS`, as in a spec.

    Raises:
        FlywheelError: when the split is unknown, the condition cannot be read, or the decisions are damaged.
    """
    if split not in (None, *SPLITS):
        raise FlywheelError(f"there is no split {split!r}; it is train or heldout")
    side = "kept" if split is None else f"kept AND split = '{split}'"
    kept = erased.without(home, of, decisions.where(home, of, side, ", ".join(SELECTED.names)).cast(SELECTED))
    if where is None:
        return kept
    # No other column can be named than those whose names stand in the condition.
    columns = [name for name in filters.COLUMNS if name in where.lower()]
    rows = described(home, of, kept, columns or ["trajectory_id"])
    return kept.filter(pa.array(filters.Candidates(rows).passing(where)))


def described(home: Home, of: Manifest, kept: pa.Table, columns: Sequence[str] = filters.COLUMNS) -> pa.Table:
    """Columns of `filter.COLUMNS` of kept rows (rows of `SELECTED`), in their order; null where a capture is gone."""
    known = [name for name in columns if name in kept.column_names]
    captured = [name for name in columns if name not in known]
    if not captured:
        return kept.select(known)
    dataset = derived.opened(home, of.recipe["workspace"], prepared.ROWS)
    with warehouse.connect() as connection:
        connection.register("kept", kept.select(list(dict.fromkeys(("trajectory_id", *known)))))
        connection.register("captured", prepared.light(dataset, of.as_of, ["id", *captured]))
        return connection.sql(
            f"SELECT {', '.join(columns)} FROM kept LEFT JOIN captured ON id = trajectory_id ORDER BY trajectory_id"
        ).to_arrow_table()
