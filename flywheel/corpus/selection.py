"""Selections: which captured rows a version consists of, and the verdict on each."""

from __future__ import annotations

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
    with warehouse.connect() as connection:
        dataset = derived.opened(home, of.recipe["workspace"], prepared.ROWS)
        connection.register("kept", kept)
        connection.register("captured", prepared.light(dataset, of.as_of))
        rows = connection.sql(
            f"SELECT {', '.join(filters.COLUMNS)} FROM kept AS k JOIN captured AS c ON c.id = k.trajectory_id"
        ).to_arrow_table()
        connection.register("passed", filters.passes(rows, where))
        return connection.sql(
            "SELECT k.* FROM kept AS k JOIN passed AS p USING (trajectory_id) WHERE p.passes ORDER BY trajectory_id"
        ).to_arrow_table()
