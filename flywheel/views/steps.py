"""Raw steps: every field of a record, one row a step, and one row a trajectory for what its steps share."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from flywheel.schema import STEP, TRAJECTORIES, Step, Trajectory, content_digest
from flywheel.views.graded import Format, Graded, Row

STEPS = pa.schema([("trajectory_id", pa.string()), ("step_index", pa.int32()), *STEP])

SHARED = pa.schema(
    [*(field for field in TRAJECTORIES if field.name != "steps"), ("reward", pa.float64()), ("success", pa.bool_())]
)


def rows(graded: Graded, _number: int) -> list[Row]:
    """A row of `STEPS` for each step."""
    of = graded.trajectory
    return [
        {"trajectory_id": of.id, "step_index": index, **msgspec.structs.asdict(step)}
        for index, step in enumerate(of.steps)
    ]


def shared(graded: Graded) -> Row:
    """A row of `SHARED`."""
    of = graded.trajectory
    said = {name: getattr(of, name) for name in Trajectory.__struct_fields__ if name != "steps"}
    verdict = {"reward": graded.reward, "success": graded.success}
    return said | {"n_steps": len(of.steps), "content_digest": content_digest(of)} | verdict


def together(shared: dict[str, Any], steps: list[dict[str, Any]]) -> Trajectory:
    """The record that a row of `SHARED` and its rows of `STEPS` are, as JSON or Arrow give them."""
    made = tuple(msgspec.convert({k: s[k] for k in Step.__struct_fields__}, Step, strict=False) for s in steps)
    said = {name: shared[name] for name in Trajectory.__struct_fields__ if name != "steps"}
    return msgspec.convert(said | {"steps": made}, Trajectory, strict=False)


RAW = Format(name="steps", version="flywheel record 1", lost={}, rows=rows)
