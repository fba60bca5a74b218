"""Formats of steps: preference pairs for DPO, and step records for step-level optimisers."""

from __future__ import annotations

from abc import ABC

import msgspec
import pyarrow as pa

from flywheel.export.source import Source
from flywheel.preferences.step_records import STEP_RECORDS
from flywheel.schema import Step
from flywheel.views import trl
from flywheel.views.graded import Row

DPO, STEP_RECORD = "trl-dpo", "step-records"

VERSIONS = {DPO: trl.VERSION, STEP_RECORD: "StepPO and GiGPO step records, arXiv 2604.18401"}


class Stepwise(Source, ABC):
    """Rows of one of both. Prompt and response of a record are chat messages: lists in JSON Lines, text in Parquet."""

    def columns(self) -> dict[str, pa.Schema]:
        """Step records may be Parquet."""
        return {self.stems()[0]: STEP_RECORDS} if self.name == STEP_RECORD else super().columns()

    def plain(self, row: Row) -> Row:
        """Messages as JSON text."""
        return row | {name: msgspec.json.encode(row[name]).decode() for name in ("prompt", "response")}


def record(row: Row) -> Row:
    """A row of `STEP_RECORDS` with its steps as chat messages."""
    prompt = trl.messages(msgspec.json.decode(row["prompt"], type=list[Step]))
    [response] = trl.messages([msgspec.json.decode(row["response"], type=Step)])
    return row | {"prompt": prompt, "response": response}
