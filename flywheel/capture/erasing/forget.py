"""Forgetting what was captured: rows, ledger, journals and quarantine, with a record that any crash leaves whole."""

from __future__ import annotations

import os
import pwd
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts, warehouse
from flywheel.capture.erasing.erasure import Erasure, Tombstones, records, save
from flywheel.capture.erasing.traces import KEY, Asked, Traces, ids_in, ids_of, journals
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import DECODER, UNREADABLE
from flywheel.settings import Home


def begin(home: Home, workspace: str, asked: Asked, traces: Traces, *, now: datetime, because: str = "") -> Erasure:
    """Write the record of an erasure; from then on it will be brought to its end. The caller holds the workspace."""
    before = records(home)
    salt = before[0].salt if before else secrets.token_hex(32)
    hashed = Erasure(id="", workspace="", begun_at=now, by="", asked={}, salt=salt, counts={}).hashed
    return save(
        home,
        Erasure(
            id=f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
            workspace=workspace,
            begun_at=now.astimezone(UTC),
            by=_user(),
            because=because,
            asked={"subjects": len(asked.subjects), "trajectories": len(asked.trajectories)},
            subjects=asked.subjects,
            salt=salt,
            trajectories=tuple(sorted(map(hashed, {*traces.ids, *traces.parts}))),
            content_digests=tuple(sorted(set(traces.trajectories["content_digest"].drop_null().to_pylist()))),
            inputs=tuple(sorted(map(hashed, traces.inputs))),
            counts=traces.counts,
        ),
    )


def resume(home: Home, workspace: str) -> None:
    """Erase what was captured where an erasure has begun and not come so far. The caller holds the workspace."""
    for record in records(home, workspace):
        if not record.captured:
            finish(home, record)


def finish(home: Home, record: Erasure) -> Erasure:
    """Bring the erasure of what was captured to its end, from wherever it was left. The caller holds the workspace.

    New files are written and noted before any old one goes, so that a crash at any moment loses no other row.
    """
    tombstones = Tombstones(records(home, record.workspace))
    if record.replaced is None:
        _clear_journals(home, record, tombstones)
        record = save(home, msgspec.structs.replace(record, replaced=_rewritten(home, record.workspace, tombstones)))
    assert record.replaced is not None
    for old in record.replaced:
        path = _base(home, old) / old
        path.unlink(missing_ok=True)
        if path.parent.exists():
            artifacts.fsync_folder(path.parent)
    for root in (home.captures, home.outcomes, home.quarantine):
        # What a killed writer left may hold what is forgotten, too.
        artifacts.sweep(root / f"workspace={record.workspace}")
    return save(home, msgspec.structs.replace(record, captured=True))


def end(home: Home, record: Erasure, now: datetime) -> Erasure:
    """Close the record of an erasure of which nothing is left to do; the texts that were looked for leave it."""
    return save(home, msgspec.structs.replace(record, done_at=now.astimezone(UTC), subjects=()))


def clear(path: Path, ids: set[str]) -> None:
    """Overwrite what a journal says of trajectories that were erased before it was said."""

    def gone(line: bytes) -> bool:
        try:
            return not ids.isdisjoint(ids_of(DECODER.decode(line)))
        except UNREADABLE:
            return False

    journal.erase(path, gone)


def _clear_journals(home: Home, record: Erasure, tombstones: Tombstones) -> None:
    pattern = Asked(subjects=record.subjects).pattern
    found = re.compile(pattern) if pattern else None

    def gone(line: bytes) -> bool:
        try:
            return bool(tombstones.either(ids_of(DECODER.decode(line))))
        except UNREADABLE:
            mentioned = found is not None and found.search(line.decode("utf-8", "replace")) is not None
            return mentioned or bool(tombstones.named(ids_in(line)))

    folder = home.journals / record.workspace
    for path in journals(folder):
        journal.erase(path, gone)
    settled = folder / journal.SETTLED
    if settled.exists():
        kept = {k: v for k, v in artifacts.read_json(settled).items() if not tombstones.named([v, k.partition("#")[0]])}
        artifacts.write_json(settled, kept)


def _rewritten(home: Home, workspace: str, tombstones: Tombstones) -> dict[str, str]:
    """The files of a workspace that hold an erased row, each written anew without: old name to new, or to nothing."""
    replaced: dict[str, str] = {}
    for root, key, kind in (
        (home.captures, "id", "trajectories"),
        (home.outcomes, "trajectory_id", "trajectories"),
        (home.quarantine, KEY, "inputs"),
    ):
        files = {str(path): path for path in warehouse.files(root, workspace)}
        if not files:
            continue
        with tombstones.connected(kind) as connection:
            held = connection.sql(
                "SELECT filename, list(file_row_number ORDER BY file_row_number) AS rows "
                "FROM read_parquet($files, hive_partitioning=false, filename=true, file_row_number=true) "
                f"WHERE {tombstones.erasure_sql(key)} IS NOT NULL GROUP BY filename ORDER BY filename",
                params={"files": list(files)},
            ).fetchall()
        for name, rows in held:
            old = files[name]
            table = pq.ParquetFile(artifacts.source(old)).read()
            mask = np.ones(table.num_rows, bool)
            mask[rows] = False
            kept = table.filter(pa.array(mask))
            [new] = warehouse.append(root, kept) if kept.num_rows else [None]
            base = _base(home, root.name)
            replaced[str(old.relative_to(base))] = str(new.relative_to(base)) if new else ""
    return replaced


def _base(home: Home, name: str) -> Path:
    """What a name in `replaced` is told from: the quarantine lies on this machine, whatever else does not."""
    return home.root if name.startswith(home.quarantine.name) else home.data


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
