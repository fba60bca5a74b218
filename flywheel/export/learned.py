"""What stored trees taught: preference pairs for DPO by the key of pairs, step records by the key of trees."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.curate import filter as filters
from flywheel.export.source import Made, Tell
from flywheel.export.stepwise import DPO, STEP_RECORD, VERSIONS, Stepwise, record
from flywheel.preferences import storage
from flywheel.preferences.step_records import step_records
from flywheel.rollout import storage as forests
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.views import trl

_STEPS = {name: what for name, what in trl.CHAT.items() if name.startswith("steps.")}
LOST = {
    DPO: {
        **_STEPS,
        "chosen_value": "`margin` is what it is beyond the other's",
        "chosen_credit": "no place for it",
        "tree_id": "`pair_id` is made of it",
    },
    STEP_RECORD: _STEPS,
}


class Learned(Stepwise):
    """Stored pairs (`trl-dpo`), or the step records of stored trees (`step-records`).

    `where` is a SQL condition on the columns of `PAIRS` or of `STEP_RECORDS`.

    Raises:
        FlywheelError: when there are none of this key, or the condition cannot be read.
    """

    def __init__(self, home: Home, name: str, key: str, where: str | None = None) -> None:
        folder = (home.pairs if name == DPO else home.trees) / key
        found = storage.load(folder) if name == DPO else step_records(forests.load(folder))
        self._table = found if where is None else _passing(found, where)
        self.name, self.version, self.lost = name, VERSIONS[name], LOST[name]
        self.unit = "pairs" if name == DPO else "step records"
        self.total = self._table.num_rows
        left_out = found.num_rows - self.total
        self.left_out = {"the condition": left_out} if left_out else {}
        told = _manifest(folder, *(("digest", "reasons", "gates") if name == DPO else ("digest",)))
        self.said = {"pairs" if name == DPO else "trees": key, **told, "split": "train"}
        self.said |= {"where": where} if where else {}

    def page(self, after: str | None, limit: int | None) -> tuple[Learned, str | None]:
        """So many rows; a cursor is the number of those before them."""
        if after is not None and not (after.isascii() and after.isdecimal() and len(after) < 16):
            raise FlywheelError("this is no cursor of these rows: send back what X-Next-Cursor was, or leave it out")
        some = copy.copy(self)
        first = int(after or 0)
        some._table = self._table.slice(first, limit)
        some.total = some._table.num_rows
        end = first + some.total
        return some, str(end) if end < self._table.num_rows else None

    def made(self, tell: Tell) -> Iterator[Made]:
        """One row after the other, in their order."""
        for batch in self._table.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield Made(written=1, rows=[trl.pair(row) if self.name == DPO else record(row)])


def _manifest(folder: Path, *names: str) -> dict[str, Any]:
    found = artifacts.read_json(folder / artifacts.MANIFEST)
    return {name: found[name] for name in names}


def _passing(table: pa.Table, where: str) -> pa.Table:
    """The rows for which a condition holds, in their order; it reads nothing else."""
    with warehouse.connect(alone=True) as connection:
        connection.register("given", table)
        connection.sql("SET enable_external_access = false")
        connection.sql("SET lock_configuration = true")
        filters.check(connection, where, table.column_names)
        try:
            found = connection.from_query(f"SELECT * FROM given WHERE ({where}\n)").to_arrow_table()
        except duckdb.Error as error:
            raise FlywheelError(f"the condition {where!r} cannot be read: {str(error).splitlines()[0]}") from error
    return found.cast(table.schema)
