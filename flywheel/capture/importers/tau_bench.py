"""tau-bench results: a list of runs, each with its messages and reward (sierra-research/tau-bench, `run.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import chat, documents, records
from flywheel.capture.importers.records import Bad, Made, Origin, Record

NAME = "tau-bench"
# The first line of the policy that the agent is given: "# Airline Agent Policy", "# Retail agent policy".
DOMAIN = re.compile(r"#\s*(\w+) agent policy", re.I)


class RewardInfo(msgspec.Struct):
    """The checker's parts. `info` holds its verdicts beside the reference answer; only verdicts are read."""

    info: dict[str, Any] | None = None


class Info(msgspec.Struct):
    """Of `info` only this is read: the task in it is the simulated user's secret, with the reference actions."""

    reward_info: RewardInfo | None = None


class Run(msgspec.Struct):
    """One trial of one task."""

    task_id: int | str
    traj: list[dict[str, Any]]
    reward: float | None = None
    trial: int | None = None
    info: Info | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds tau-bench results."""
    return head.lstrip().startswith(b"[") and b'"task_id"' in head and b'"traj"' in head


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The runs of a file."""
    with documents.opened(path) as data:
        yield from records.read(
            documents.elements(data), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    run = msgspec.convert(raw, Run)
    if not run.traj:
        raise ValueError("the run has no messages")
    steps = chat.steps(run.traj, errors=("Error",))
    policy = steps[0].content or ""
    domain = found[1].lower() if (found := DOMAIN.search(policy)) else "unknown"
    model = origin.stem.removesuffix(f"-{domain}")
    task = f"{NAME}-{domain}-{run.task_id}"
    trajectory = origin.trajectory(
        task_id=task,
        task_group=task,
        task_type=f"{NAME}/{domain}",
        agent=model,
        model=model,
        end_state="completed",
        metadata={"trial": run.trial},
        steps=steps,
    )
    signals = {"reward": run.reward}
    if run.info and run.info.reward_info and run.info.reward_info.info:
        signals |= {name: run.info.reward_info.info.get(name) for name in ("r_actions", "r_outputs")}
    return trajectory, [origin.outcome(trajectory, s, v) for s, v in signals.items() if v is not None]
