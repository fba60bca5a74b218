"""Derived tables: what is computed from the content of captured rows, once a row, kept in Lance file by file."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flywheel import artifacts, warehouse
from flywheel.curate.derivation import Computed, Derivation, rows_of
from flywheel.curate.tables import (
    NEVER,
    alone,
    cleaned,
    delete,
    exists,
    files,
    held,
    interrupted,
    reading,
    settled,
    writing,
)
from flywheel.schema import FlywheelError
from flywheel.settings import Home

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

# Where rows are computed: in this process, or by the workers of a Ray cluster.
Engine = Literal["local", "ray"]

# The file format; a newer one is a decision, not a side effect of an upgrade.
DATA_STORAGE_VERSION = "2.1"

# Bytes of Parquet in one commit: many small arrivals become few fragments, and a kill loses at most so much work.
GROUP_BYTES = 512 << 20

# Bytes of Parquet in one task of a cluster.
TASK_BYTES = 32 << 20


def folder(home: Home, workspace: str, derivation: Derivation) -> Path:
    """Where a derived table of a workspace lies."""
    return home.derived / workspace / f"{derivation.table}.lance"


def bring(
    home: Home,
    workspace: str,
    derivation: Derivation,
    *,
    engine: Engine = "local",
    progress: Callable[[int, int], None] | None = None,
) -> LanceDataset:
    """Bring a derived table up to date with the captures, and open it; where there are no captures it is empty.

    Rows of captures files that are not in it are computed and appended, several files a commit; rows of files that
    are gone are deleted. Each commit holds whole files, so a killed run goes on where it stopped, and two runs at once
    take turns. Memory does not grow with the captures. `progress` is told the rows done and all rows to do. By every
    `engine` the table holds the same rows in the same order.

    Raises:
        FlywheelError: when the table is damaged or cannot be written, or `compute` breaks its contract.
    """
    import lance

    path = folder(home, workspace, derivation)
    with held(path) as lock:
        if not exists(path):
            # What lies there in no version is a first write's that was killed; on an object store another machine's.
            if not artifacts.remote(path):
                artifacts.remove(path)
            with writing(lock, path):
                lance.write_dataset(
                    derivation.rows.empty_table(), str(path), mode="create", data_storage_version=DATA_STORAGE_VERSION
                )
        with reading(path):
            dataset = lance.dataset(str(path))
            if interrupted(lock):
                cleaned(dataset, NEVER, alone(dataset))
                settled(lock)
            present = files(dataset)
        captured = {file.name: file for file in warehouse.files(home.captures, workspace)}
        gone = sorted(present - captured.keys())
        if gone:
            with writing(lock, path):
                delete(dataset, gone)
        missing = [(file, rows) for name, file in captured.items() if name not in present and (rows := rows_of(file))]
        told = _teller(sum(rows for _, rows in missing), progress)
        groups = list(_groups([file for file, _ in missing], GROUP_BYTES))
        if engine == "ray" and groups:
            with writing(lock, path):
                _append_by_ray(dataset, derivation, path, groups, told)
            return opened(home, workspace, derivation)
        for group in groups:
            computed = Computed(derivation, group, told)
            with writing(lock, path):
                try:
                    lance.write_dataset(computed.reader(), dataset, mode="append")
                except (OSError, ValueError, RuntimeError) as error:
                    raise computed.error or error from None
        return opened(home, workspace, derivation)


def fragments(derivation: Derivation, path: Path, files: list[Path]) -> tuple[list[FragmentMetadata], int]:
    """The derived rows of captures files, written as fragments that no version of the table holds yet; and their count.

    Raises:
        FlywheelError: when the table or a file is not there, or a file is damaged.
    """
    from lance.fragment import write_fragments

    if not exists(path):
        raise FlywheelError(
            f"the data folder is not seen here, on {platform.node()}: {path} is not there; share the folder"
        )
    counted = 0

    def told(rows: int) -> None:
        nonlocal counted
        counted += rows

    computed = Computed(derivation, files, told)
    try:
        made = write_fragments(computed.reader(), str(path), mode="append", data_storage_version=DATA_STORAGE_VERSION)
    except (OSError, ValueError, RuntimeError) as error:
        raise computed.error or error from None
    return made, counted


def opened(home: Home, workspace: str, derivation: Derivation) -> LanceDataset:
    """A derived table as it stands.

    Raises:
        FlywheelError: when it was never brought, or cannot be opened.
    """
    import lance

    path = folder(home, workspace, derivation)
    if not exists(path):
        raise FlywheelError(f"nothing has been derived yet for workspace {workspace!r}: {path} is not there; bring it")
    with reading(path):
        return lance.dataset(str(path))


def _append_by_ray(
    dataset: LanceDataset, derivation: Derivation, path: Path, groups: list[list[Path]], told: Callable[[int], None]
) -> None:
    """Append the rows of captures files, a commit for each group, as a cluster computes them."""
    from lance import LanceDataset, LanceOperation

    from flywheel.curate import cluster

    parts = [list(_groups(group, TASK_BYTES)) for group in groups]
    for made in cluster.fragments(derivation, path, parts, told):
        # Beside them other workers are writing: of the folder only these are made durable.
        for file in (file for fragment in made for file in fragment.files):
            if not (path / "data" / file.path).exists():
                raise FlywheelError(f"a worker wrote to a folder {path} of its own; share the data folder among nodes")
            artifacts.fsync_tree(path / "data" / file.path)
        dataset = LanceDataset.commit(dataset, LanceOperation.Append(made), read_version=dataset.version)
        artifacts.fsync_tree(path / "_versions")


def _groups(files: list[Path], most: int) -> Iterator[list[Path]]:
    """Files in their order, as many at a time as so many bytes hold, at least one."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > most:
            yield group
            group, size = [], 0
        group.append(file)
        size += more
    if group:
        yield group


def _teller(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Counts rows towards a total, and tells `progress` of both."""
    done = 0

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, total)

    return told
