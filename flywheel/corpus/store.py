"""The rows of a corpus: one Lance dataset, in which a tag `vN` holds each version for ever."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from flywheel import artifacts
from flywheel.corpus.manifest import Manifest, manifest, versions
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

SCHEMA_VERSION = 1

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

# The file format; a newer one is a decision, not a side effect of an upgrade.
DATA_STORAGE_VERSION = "2.1"

# With a primary key, two writers that insert one key conflict; without, they leave it twice.
_KEY = pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})

_VERSION = b"flywheel.version"
_DIGEST = b"flywheel.digest"


def folder(home: Home, name: str) -> Path:
    """Where the dataset of a corpus lies."""
    return home.corpora / name / "corpus.lance"


def rows(
    home: Home,
    name: str,
    version: int | None = None,
    split: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of a version (the newest by default) in the columns of `ROWS`, ordered by id.

    `split` keeps one side alone: `train` or `heldout`.

    Raises:
        FlywheelError: when there is no such version, or its data is missing or damaged.
    """
    dataset = opened(home, manifest(home, name, version))
    if split not in (None, "train", "heldout"):
        raise FlywheelError(f"there is no split {split!r}; it is train or heldout")
    wanted = ROWS.names if columns is None else list(columns)
    if unknown := [column for column in wanted if column not in ROWS.names]:
        raise FlywheelError(f"corpus rows have no column {unknown[0]!r}; they have: {', '.join(ROWS.names)}")
    table = dataset.to_table(columns=wanted, filter=f"split = '{split}'" if split else None, scan_in_order=True)
    return table.cast(pa.schema([ROWS.field(column) for column in wanted]))


def opened(home: Home, of: Manifest) -> LanceDataset:
    """The dataset as it stands at a version.

    Raises:
        FlywheelError: when it is missing, damaged, or not the version that the manifest describes.
    """
    import lance

    advice = f"restore it from the captures with: flywheel corpus rebuild {of.name}@v{of.version}"
    try:
        dataset = lance.dataset(str(folder(home, of.name)), version=f"v{of.version}")
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FlywheelError(f"the data of {of.name}@v{of.version} cannot be opened ({reason}); {advice}") from error
    marks = dataset.schema.metadata or {}
    if marks.get(_VERSION) != str(of.version).encode() or marks.get(_DIGEST) != of.digest.encode():
        raise FlywheelError(f"the data of {of.name}@v{of.version} is that of another version; {advice}")
    return dataset


def write(home: Home, of: Manifest, table: pa.Table) -> None:
    """Write the rows of a version and move its tag to them; other versions stay as they are.

    The files are on the disk when this returns. The caller holds the corpus (`manifest.locked`).
    """
    import lance

    path = folder(home, of.name)
    fields = [_KEY if field.name == "id" else field for field in ROWS]
    marks = {_VERSION: str(of.version).encode(), _DIGEST: of.digest.encode()}
    schema = pa.schema(fields, metadata=marks)
    written = lance.write_dataset(
        pa.Table.from_arrays(table.columns, schema=schema),
        str(path),
        mode="overwrite" if _exists(path) else "create",
        data_storage_version=DATA_STORAGE_VERSION,
    )
    tag = f"v{of.version}"
    if tag in written.tags.list():
        written.tags.update(tag, written.version)
    else:
        written.tags.create(tag, written.version)
    _make_durable(path)


def clear(home: Home, name: str) -> None:
    """Remove what writes that were cut short have left: tags of no version, and data that no tag holds.

    The caller holds the corpus.
    """
    import lance

    for kind in ("versions", "decisions"):
        artifacts.sweep(home.corpora / name / kind)
    path, known = folder(home, name), versions(home, name)
    if not _exists(path):
        return
    dataset = lance.dataset(str(path))
    tags = dataset.tags.list()
    for tag in tags:
        if tag not in {f"v{version}" for version in known}:
            dataset.tags.delete(tag)
    if len(dataset.versions()) > len(known):
        dataset.cleanup_old_versions(
            older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
        )


def _exists(path: Path) -> bool:
    """Whether a write has ever been committed: a folder that a first write left unfinished holds no manifest."""
    return any(path.glob("_versions/*.manifest"))


def _make_durable(path: Path) -> None:
    for place in (path, *path.rglob("*")):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
