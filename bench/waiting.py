"""What waiting for late outcomes is worth: labels against a planted truth, by policy, of a snapshot a night.

python -m bench.waiting [--episodes 10000] [--days 7] [--seed 0]

Each episode succeeded or not, and its outcomes are planted: a checker speaks within minutes and is sometimes wrong;
some of its mistakes are corrected by a revision half a day later; most failures are reopened, a day later in the
median and some after a week; a few episodes are judged by a person after days. A snapshot is taken every midnight, and
an episode's label is the one with which it enters: that of the first snapshot that has one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import measure
from flywheel import warehouse
from flywheel.outcomes.join import joined
from flywheel.outcomes.policy import RewardPolicy, Signal, checked
from flywheel.schema import Outcome, Trajectory, outcomes_table, trajectories_table
from flywheel.settings import Home

WORKSPACE = "waiting"
START = datetime(2026, 1, 1, tzinfo=UTC)
# What is still to be heard after the snapshot is in by then.
LATER = timedelta(days=60)

SUCCEEDS = 0.6
FOOLED, STRICT = 0.25, 0.03  # the checker passes what failed; fails what was right
CORRECTED, CORRECTED_AFTER = 0.4, 12.0  # of its mistakes; hours, exponential
REOPENED, REOPENED_AFTER, SPREAD = 0.8, 20.0, 1.0  # of failures; hours, the median of a lognormal and its sigma
JUDGED, JUDGED_AFTER = 0.05, 36.0  # of all; hours, exponential


def policies() -> dict[str, RewardPolicy]:
    """The policies that are compared, by what they do."""
    overruled = Signal(name="person", required=False, tier=1)
    return {
        "the checker alone, now": RewardPolicy(signals=(Signal(name="checker"),)),
        "now, vetoes heard so far": checked("reopened", wait_hours=0.0),
        **{f"after {hours} h": checked("reopened", wait_hours=float(hours)) for hours in (6, 24, 48, 72, 120)},
        "after 48 h, people overrule": RewardPolicy(signals=(overruled, *checked("reopened").signals)),
    }


def plant(home: Home, episodes: int, days: int, seed: int) -> np.ndarray:
    """Store the episodes and all that is ever heard of them; gives who succeeded (bool, by number)."""
    random = np.random.default_rng(seed)
    truth = random.random(episodes) < SUCCEEDS
    arrived = random.uniform(0.0, 24.0 * days, episodes)
    passed = np.where(truth, random.random(episodes) >= STRICT, random.random(episodes) < FOOLED)
    told = arrived + random.uniform(0.01, 0.2, episodes)
    corrected = (passed != truth) & (random.random(episodes) < CORRECTED)
    reopened = ~truth & (random.random(episodes) < REOPENED)
    judged = random.random(episodes) < JUDGED
    outcomes: list[Outcome] = []

    def tell(signal: str, which: np.ndarray, hours: np.ndarray, values: np.ndarray) -> None:
        for i in np.flatnonzero(which).tolist():
            moment = _at(hours[i])
            outcomes.append(
                Outcome(
                    workspace=WORKSPACE,
                    trajectory_id=f"{i:08}",
                    signal=signal,
                    value=float(values[i]),
                    source="planted",
                    observed_at=moment,
                    arrived_at=moment,
                )
            )

    tell("checker", np.ones(episodes, bool), told, passed)
    tell("checker", corrected, told + random.exponential(CORRECTED_AFTER, episodes), truth)
    tell("reopened", reopened, arrived + random.lognormal(np.log(REOPENED_AFTER), SPREAD, episodes), truth)
    tell("person", judged, arrived + random.exponential(JUDGED_AFTER, episodes), truth)
    warehouse.append(home.captures, trajectories_table(list(_trajectories(arrived))))
    warehouse.append(home.outcomes, outcomes_table(outcomes))
    return truth


def run(episodes: int, days: int, seed: int) -> list[dict[str, Any]]:
    """One row a policy, for `measure.write`."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        truth = plant(home, episodes, days, seed)
        for name, policy in policies().items():
            nights = [_labels(home, policy, START + timedelta(days=night)) for night in range(1, days + 1)]
            entered = pl.concat(night.drop_nulls() for night in nights).unique("number", keep="first")
            known = entered.join(_labels(home, policy, START + LATER), on="number", suffix="_later").sort("number")
            right = pl.Series(truth)[known["number"]]
            passed = known["success"]
            rows.append(
                {
                    "policy": name,
                    "labelled": known.height,
                    "left for later": episodes - known.height,
                    "label error": float((passed != right).mean() or 0.0),
                    "failures among successes": float((~right.filter(passed)).mean() or 0.0),
                    "overturned later": float((passed != known["success_later"]).mean() or 0.0),
                }
            )
    return rows


def _labels(home: Home, policy: RewardPolicy, moment: datetime) -> pl.DataFrame:
    table = joined(home, WORKSPACE, policy, moment).select(["trajectory_id", "success"])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.select("success", number=pl.col("trajectory_id").cast(pl.Int64))


def _trajectories(arrived: np.ndarray) -> Iterable[Trajectory]:
    for i, hours in enumerate(arrived):
        yield Trajectory(
            id=f"{i:08}",
            workspace=WORKSPACE,
            task_id=str(i),
            task_group=str(i),
            task_type="planted",
            agent="planted",
            end_state="completed",
            arrived_at=_at(hours),
            source="planted",
            steps=(),
        )


def _at(hours: float) -> datetime:
    return START + timedelta(hours=float(hours))


def main() -> None:
    """Plant, take the snapshots, and say what each policy got wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measure.write(
        "waiting",
        run(options.episodes, options.days, options.seed),
        title=f"Waiting for outcomes: a snapshot a night of {options.episodes:,} episodes in {options.days} days",
        note="Shares of the labelled, by the label with which they entered. What is left for later enters after "
        "the last of these nights; what no signal ever corrects stays wrong under every policy.",
    )


if __name__ == "__main__":
    main()
