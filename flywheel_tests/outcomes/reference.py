"""The verdict on one trajectory as the policy's documentation tells it, in plain Python: what the join must equal."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from flywheel.outcomes.policy import RewardPolicy, Signal
from flywheel.schema import Outcome, Trajectory

Entry = dict[str, Any]


def verdict(policy: RewardPolicy, trajectory: Trajectory, outcomes: list[Outcome], as_of: datetime) -> Entry:
    """One row of `join.JOINED`."""
    voices = {
        s.name: heard(s, [o for o in outcomes if o.trajectory_id == trajectory.id], as_of) for s in policy.signals
    }
    spoken = {name: max(found, key=lambda v: v["latest"]) for name, found in voices.items() if found}
    top = max((s.tier for s in policy.signals if s.name in spoken), default=None)
    tier = max((s.tier for s in policy.signals if s.silence is not None), default=None) if top is None else top
    matures_at, missing, conflicting = trajectory.arrived_at, False, False
    counted: list[tuple[Signal, float]] = []
    entries: list[tuple[Signal, list[Entry], bool]] = []
    for s in policy.signals:
        wait = timedelta(hours=s.wait_by_task_type.get(trajectory.task_type, s.wait_hours))
        due = trajectory.arrived_at
        if s.name in spoken:
            verdicts = {voice["value"] >= policy.success_at for voice in voices[s.name]}
            held = s.tier == tier and policy.on_conflict == "hold" and len(verdicts) == 2
            told = sorted(voices[s.name], key=lambda v: v["latest"]) if len(verdicts) == 2 else [spoken[s.name]]
            told = told if policy.on_conflict == "hold" else [spoken[s.name]]
            role = "outranked" if s.tier != tier else "conflict" if held else "counted"
            entries.append((s, [row | {"role": role} for voice in told for row in voice["rows"]], True))
            conflicting |= held
        elif top is None or s.tier >= top:
            due += wait
            missing |= s.required and s.silence is None
            if s.silence is not None and s.tier == tier and due <= as_of:
                entries.append((s, [{"value": s.silence, "outcome_id": None, "role": "assumed"}], False))
        if s.tier == tier and (s.name in spoken or s.silence is not None):
            counted.append((s, spoken[s.name]["value"] if s.name in spoken else s.silence))
        matures_at = max(matures_at, due)
    if policy.combine == "first" and counted:
        chosen = next((s for s, _ in counted if s.name in spoken), counted[0][0])
        for s, rows, _ in entries:
            for row in rows:
                row["role"] = row["role"] if s == chosen or row["role"] == "conflict" else "outranked"
        # Conflicts are told before ranks: they hold the verdict whichever signal comes first.
        counted = [(s, value) for s, value in counted if s == chosen]
    state = (
        "pending"
        if matures_at > as_of
        else "conflicting"
        if conflicting
        else "expired"
        if missing or not counted
        else "resolved"
    )
    reward = combined(policy, counted) if state == "resolved" else None
    return {
        "trajectory_id": trajectory.id,
        "state": state,
        "reward": reward,
        "success": None if reward is None else reward >= policy.success_at,
        "signals": [{"signal": s.name, "weight": s.weight} | row for s, rows, _ in entries for row in rows],
        "matures_at": matures_at,
    }


def combined(policy: RewardPolicy, counted: list[tuple[Signal, float]]) -> float:
    """The reward of the values that count."""
    if policy.combine == "mean":
        return sum(s.weight * value for s, value in counted) / sum(s.weight for s, _ in counted)
    return min(value for _, value in counted)


def heard(signal: Signal, outcomes: list[Outcome], as_of: datetime) -> list[Entry]:
    """What each voice says: its value, its latest moment, and its rows in the order of the steps."""
    told = [
        o
        for o in outcomes
        if o.arrived_at <= as_of
        and o.signal == signal.name
        and (o.step_index is not None) == bool(signal.steps)
        and (not signal.checker_versions or o.checker_version in signal.checker_versions)
    ]
    first = {o.id: o for o in sorted(told, key=lambda o: o.arrived_at, reverse=True)}
    said: dict[tuple[str, str], dict[int | None, Outcome]] = defaultdict(dict)
    for o in sorted(first.values(), key=moment):
        said[o.source, o.checker_version][o.step_index] = o
    found = []
    for (source, version), by_step in said.items():
        if signal.newest_version and version != max((v for s, v in said if s == source), key=numbered):
            continue
        rows = [by_step[step] for step in sorted(by_step, key=lambda step: step or 0)]
        values = [row.value for row in rows]
        value = {"mean": sum(values) / len(values), "sum": sum(values), "min": min(values), "last": values[-1]}
        found.append(
            {
                "value": value[signal.steps or "last"],
                "latest": max(map(moment, rows)),
                "rows": [{"value": row.value, "outcome_id": row.id} for row in rows],
            }
        )
    return found


def moment(o: Outcome) -> tuple[datetime, datetime, str]:
    """What decides which of two facts is the later one."""
    return o.observed_at, o.arrived_at, o.id


def numbered(version: str) -> tuple[str, str]:
    """Orders 1.9 before 1.10."""
    return re.sub(r"\d+", lambda found: found[0].rjust(20, "0"), version), version
