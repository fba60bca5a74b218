"""Upkeep of derived tables: made anew, merged, and rid of what must not be kept."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel import artifacts
from flywheel.curate.derivation import Derivation
from flywheel.curate.derived import bring, folder, opened
from flywheel.curate.tables import alone, cleaned, delete, files, held, reading, settled, writing
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset

# Fragments of fewer rows are merged by `compact`; a full one is never rewritten.
FRAGMENT_ROWS = 1 << 17


def remake(
    home: Home,
    workspace: str,
    derivation: Derivation,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LanceDataset:
    """Delete a derived table, damaged or not, and bring it again from the captures."""
    path = folder(home, workspace, derivation)
    with held(path) as lock:
        # A table without versions does not exist: killed from here on, the next `bring` begins anew.
        artifacts.remove(path / "_versions")
        artifacts.remove(path)
        settled(lock)
    return bring(home, workspace, derivation, progress=progress)


def compact(home: Home, workspace: str, derivation: Derivation, older_than: timedelta) -> int:
    """Merge the small fragments of a derived table and drop its Lance versions older than given; bytes reclaimed.

    A reader of a version that is dropped loses its files: leave those young that a reader may still be reading.

    Raises:
        FlywheelError: when the table was never brought, or is damaged.
    """
    path = folder(home, workspace, derivation)
    with held(path) as lock:
        dataset = opened(home, workspace, derivation)
        with reading(path), writing(lock, path):
            return _compacted(dataset, older_than, alone(dataset))


def purge(path: Path, captures: Collection[str]) -> None:
    """Delete the rows of captures files (their names) from a derived table of any recipe, and every byte of them.

    All older states of the table go: whoever is reading one must open the table anew. So does what another machine is
    just writing to it on an object store. A table that is damaged goes whole; it is made again from the captures.
    """
    import lance

    with held(path) as lock:
        try:
            with reading(path), writing(lock, path):
                dataset = lance.dataset(str(path))
                delete(dataset, sorted(files(dataset).intersection(captures)))
                _compacted(dataset, timedelta(0), alone=True)
        except FlywheelError:
            artifacts.remove(path / "_versions")
            artifacts.remove(path)
            settled(lock)


def _compacted(dataset: LanceDataset, older_than: timedelta, alone: bool) -> int:
    # Deleted rows leave the disk, be they ever so few: someone may have asked to be forgotten.
    dataset.optimize.compact_files(
        target_rows_per_fragment=FRAGMENT_ROWS,
        materialize_deletions_threshold=0.0,
        batch_size=1024,
        num_threads=1,
    )
    return cleaned(dataset, older_than, alone)
