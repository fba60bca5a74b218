"""The rows of a version: captured content, read where it is kept once for all versions, with this one's verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from flywheel.corpus.manifest import Manifest, manifest
from flywheel.corpus.selection import selected
from flywheel.curate import derived, prepared
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel.settings import Home

ROWS = pa.schema(
    [
        *TRAJECTORIES,
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("split", pa.string()),
        ("state", pa.string()),
        ("row_digest", pa.string()),
    ]
)

# Rows that are held at once: with the longest conversations seen, tens of megabytes.
BATCH = 1024

_VERDICTS = ("reward", "success", "split", "state", "row_digest")


def rows(
    home: Home,
    name: str,
    version: int | str | None = None,
    split: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of a version (the newest by default) in the columns of `ROWS`, ordered by id.

    `split` keeps one side alone: `train` or `heldout`. All are held in memory; `batches` holds a few.

    Raises:
        FlywheelError: when there is no such version, or its data is missing or damaged.
    """
    found = list(batches(home, manifest(home, name, version), split, columns))
    return pa.concat_tables(found) if found else schema_of(columns).empty_table()


def batches(
    home: Home,
    of: Manifest,
    split: str | None = None,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    size: int = BATCH,
) -> Iterator[pa.Table]:
    """The rows of a version as `rows` gives them, at most `size` at a time.

    `where` is a SQL condition on `filter.COLUMNS`.
    """
    return of_keys(home, of, selected(home, of, split, where), columns, size)


def of_keys(
    home: Home, of: Manifest, keys: pa.Table, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[pa.Table]:
    """The rows of a selection (rows of `SELECTED`), in its order, at most `size` at a time."""
    schema = schema_of(columns)
    if not keys.num_rows:
        return
    named = keys.rename_columns({"trajectory_id": "id"})
    dataset = derived.opened(home, of.recipe["workspace"], prepared.ROWS)
    at = 0
    try:
        for table in prepared.batches(dataset, named.select(["id", "content_digest"]), captured(schema), size=size):
            yield beside(table, named.slice(at, table.num_rows), schema)
            at += table.num_rows
    except (OSError, ValueError) as error:
        raise FlywheelError(
            f"the content of {of.ref} cannot be read ({str(error).splitlines()[0]}); make it again from the captures "
            f"with: flywheel corpus rebuild {of.ref}"
        ) from error


def schema_of(columns: Sequence[str] | None) -> pa.Schema:
    """The schema of some columns of `ROWS`, all by default."""
    wanted = ROWS.names if columns is None else list(columns)
    if unknown := [column for column in wanted if column not in ROWS.names]:
        raise FlywheelError(f"corpus rows have no column {unknown[0]!r}; they have: {', '.join(ROWS.names)}")
    return pa.schema([ROWS.field(column) for column in wanted])


def captured(schema: pa.Schema) -> list[str]:
    """Which columns of rows come from the captures, at least one; the others are the version's verdicts."""
    return [name for name in schema.names if name not in _VERDICTS] or ["id"]


def beside(captured: pa.Table, verdicts: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of a schema (`schema_of`), made of verdicts and, where these lack a column, of what was captured."""
    columns = [(verdicts if name in verdicts.column_names else captured)[name] for name in schema.names]
    return pa.table(columns, names=schema.names).cast(schema)
