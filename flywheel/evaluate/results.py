"""Results: played tasks as rows, the only thing that reports and the gate are worked out of."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from flywheel.environments.protocol import Environment
from flywheel.rollout.episode import Episode
from flywheel.schema import Step

# One row a task played by a policy at a temperature.
RESULTS = pa.schema(
    [
        ("policy", pa.string()),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
        ("environment", pa.string()),
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("success", pa.bool_()),
        ("credit", pa.float64()),
        ("turns", pa.int32()),
        ("tokens", pa.int64()),
        ("end_state", pa.string()),
        # A JSON object: each of the checker's checks by name.
        ("checks", pa.string()),
        ("tool_calls", pa.int32()),
        ("tool_errors", pa.int32()),
        # Whether the first call only read; null where the environment does not say which tools do.
        ("checked_first", pa.bool_()),
        ("cpu_seconds", pa.float64()),
    ]
)

# As they are stored: the same weights may be judged under several names.
UNNAMED = RESULTS.remove(0)


def rows(environment: Environment, episodes: list[Episode], *, temperature: float, seed: int) -> pa.Table:
    """Played episodes as rows of `RESULTS`, without the policy's name."""
    reading = getattr(getattr(environment, "toolbox", None), "reading", None)
    return pa.Table.from_pylist([_row(e, reading, temperature, seed) for e in episodes], schema=UNNAMED)


def _row(episode: Episode, reading: frozenset[str] | None, temperature: float, seed: int) -> dict[str, Any]:
    acts = [s for s in episode.steps if s.role == "assistant"]
    return {
        "temperature": temperature,
        "seed": seed,
        "environment": episode.task.environment,
        "task_id": episode.task.id,
        "task_group": episode.task.group,
        "success": episode.score.success,
        "credit": episode.score.credit,
        "turns": len(acts),
        "tokens": episode.tokens,
        "end_state": episode.end_state,
        "checks": json.dumps(episode.score.checks),
        "tool_calls": sum(len(s.tool_calls) for s in acts),
        "tool_errors": sum(bool(s.is_error) for s in episode.steps if s.role == "tool"),
        "checked_first": _checked_first(acts, reading),
        "cpu_seconds": episode.cpu_seconds,
    }


def _checked_first(acts: list[Step], reading: frozenset[str] | None) -> bool | None:
    if reading is None:
        return None
    first = next((call.name for step in acts for call in step.tool_calls), None)
    return first in reading
