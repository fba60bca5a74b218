"""What a view is given: a trajectory with its verdict; and what it answers where a format has no row for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flywheel.schema import FlywheelError, Trajectory

Row = dict[str, Any]


class Graded(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory with what is thought of it. None: nobody has said.

    `compression` tells of steps that a marker stands for (`compress.Compression` as plain values).
    """

    trajectory: Trajectory
    reward: float | None = None
    success: bool | None = None
    compression: Row | None = None


class Unfit(FlywheelError):
    """A trajectory that a format has no row for; the message is the reason, the same for all alike."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A format that trajectories are written in.

    `version` says by which description it is written. `rows` gives the rows of one trajectory, which is the `number`-th
    (from 0) of an export; it raises `Unfit`. `lost` tells, for each field of a record that does not come back when
    the rows are read again by the importer `read_by`, what becomes of it.
    """

    name: str
    version: str
    lost: Mapping[str, str]
    rows: Callable[[Graded, int], list[Row]]
    read_by: str | None = None
    extension: str = "jsonl"


# What every format but the raw one leaves behind: where the record came from, and the clock.
ORIGIN = {
    "id": "a record that is read again is named by its line; the row's `id` is kept as `source_id`",
    "source": "the file that is read",
    "source_line": "the line that is read",
    "arrived_at": "the time of reading",
    "started_at": "no place for it",
    "metadata": "no place for it",
    "steps.at": "no place for times of steps",
    "steps.prompt_tokens": "no place for counts of tokens",
    "steps.completion_tokens": "no place for counts of tokens",
}


def about(graded: Graded) -> Row:
    """What a line may say beside its messages: whose it is, the task and the verdict, as far as they are known."""
    of = graded.trajectory
    said = {
        "id": of.id,
        "task_id": of.task_id,
        "task_group": of.task_group,
        "task_type": of.task_type,
        "agent": of.agent,
        "agent_version": of.agent_version,
        "model": of.model,
        "provider": of.provider,
        "reward": graded.reward,
        "success": graded.success,
    }
    return said | ({"compression": graded.compression} if graded.compression else {})
