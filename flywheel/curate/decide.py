"""The decision on each candidate: kept or not, on which side of the split, and why."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from flywheel.curate.spec import Spec
from flywheel.outcomes.join import HEARD
from flywheel.settings import Home

DECISIONS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("kept", pa.bool_()),
        ("split", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("reward", pa.float64()),
        ("success", pa.bool_()),
        ("state", pa.string()),
        ("signals", pa.list_(HEARD)),
        ("row_digest", pa.string()),
    ]
)


def decide(home: Home, spec: Spec, as_of: datetime) -> pa.Table:
    """One row of `DECISIONS` for each trajectory that had arrived by `as_of`, ordered by trajectory_id."""
    raise NotImplementedError
