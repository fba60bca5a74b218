"""What trees taught, as files: preference pairs for DPO, and step records for step-level optimisers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from flywheel import artifacts, warehouse
from flywheel.export.card import UNSPECIFIED, Card, File
from flywheel.export.files import Columns, Lines, Sink
from flywheel.export.write import Filed, digest_of, written_to
from flywheel.preferences import storage
from flywheel.preferences.step_records import STEP_RECORDS, step_records
from flywheel.rollout import storage as forests
from flywheel.schema import FlywheelError, Step
from flywheel.settings import Home
from flywheel.views import trl

DPO, STEP_RECORD = "trl-dpo", "step-records"

LOST = {
    "trl-dpo": {
        **{name: what for name, what in trl.CHAT.items() if name.startswith("steps.")},
        "chosen_value": "`margin` is what it is beyond the other's",
        "chosen_credit": "no place for it",
        "tree_id": "`pair_id` is made of it",
    },
    "step-records": {name: what for name, what in trl.CHAT.items() if name.startswith("steps.")},
}


def pairs(
    home: Home, key: str, to: Path, *, where: str | None = None, license: str = UNSPECIFIED, packed: bool = False
) -> Card:
    """Write stored preference pairs as rows of DPO; `where` is a SQL condition on the columns of pairs.

    Raises:
        FlywheelError: when there are none of this key, or the condition cannot be read.
    """
    folder = home.pairs / key
    table = storage.load(folder)
    kept = table if where is None else _passing(table, where)

    def filed() -> Filed:
        for batch in kept.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield "train", trl.pair(row)

    made_of = {"pairs": key, **_manifest(folder, "digest", "reasons", "gates")}
    left_out = {"the condition": table.num_rows - kept.num_rows}
    return _written(DPO, to, filed, made_of, "pairs", kept.num_rows, left_out, license, where, packed=packed)


def records(
    home: Home,
    key: str,
    to: Path,
    *,
    where: str | None = None,
    license: str = UNSPECIFIED,
    packed: bool = False,
    columns: bool = False,
) -> Card:
    """Write the step records of stored trees; `where` is a SQL condition on the columns of `STEP_RECORDS`.

    Prompt and response are chat messages: lists in JSON Lines, their JSON text in Parquet.

    Raises:
        FlywheelError: when there are no trees of this key, or the condition cannot be read.
    """
    folder = home.trees / key
    table = step_records(forests.load(folder))
    kept = table if where is None else _passing(table, where)

    def filed() -> Filed:
        for batch in kept.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                prompt: Any = trl.messages(msgspec.json.decode(row["prompt"], type=list[Step]))
                [response] = trl.messages([msgspec.json.decode(row["response"], type=Step)])
                said = {"prompt": prompt, "response": response}
                yield (
                    "train",
                    row | ({k: msgspec.json.encode(v).decode() for k, v in said.items()} if columns else said),
                )

    made_of = {"trees": key, **_manifest(folder, "digest")}
    left_out = {"the condition": table.num_rows - kept.num_rows}
    return _written(
        STEP_RECORD,
        to,
        filed,
        made_of,
        "step records",
        kept.num_rows,
        left_out,
        license,
        where,
        packed=packed,
        schema=STEP_RECORDS if columns else None,
    )


def _written(
    name: str,
    to: Path,
    filed: Callable[[], Filed],
    made_of: dict[str, Any],
    unit: str,
    written: int,
    left_out: dict[str, int],
    license: str,
    where: str | None,
    *,
    packed: bool,
    schema: pa.Schema | None = None,
) -> Card:
    def opened(folder: Path, stem: str) -> Sink:
        return Columns(folder, stem, schema) if schema else Lines(folder, stem, packed=packed)

    def card(files: tuple[File, ...]) -> Card:
        return Card(
            format=name,
            format_version=trl.VERSION if name == DPO else "StepPO and GiGPO step records, arXiv 2604.18401",
            unit=unit,
            looked_at=written + sum(left_out.values()),
            written=written,
            left_out={reason: count for reason, count in left_out.items() if count},
            files=files,
            digest=digest_of(files),
            license=license,
            made_of=made_of | {"split": "train"} | ({"where": where} if where else {}),
            lost=LOST[name],
        )

    return written_to(to, ["train"], opened, filed, card)


def _manifest(folder: Path, *names: str) -> dict[str, Any]:
    found = artifacts.read_json(folder / artifacts.MANIFEST)
    return {name: found[name] for name in names}


def _passing(table: pa.Table, where: str) -> pa.Table:
    """The rows for which a condition holds, in their order; it reads nothing else."""
    with warehouse.connect(alone=True) as connection:
        connection.register("given", table)
        connection.sql("SET enable_external_access = false")
        connection.sql("SET lock_configuration = true")
        try:
            found = connection.from_query(f"SELECT * FROM given WHERE ({where}\n)").to_arrow_table()
        except (duckdb.Error, AttributeError) as error:
            named = ", ".join(table.column_names)
            raise FlywheelError(
                f"the condition {where!r} cannot be read: {str(error).splitlines()[0]}. Columns: {named}"
            ) from error
    return found.cast(table.schema)
