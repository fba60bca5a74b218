"""What a turn teaches, at several seeds: `python bench/learning.py --seeds 0 1 2 --out docs/learning.md`.

Each seed has a data folder of its own and draws its own week of captures, its own training order, its own trees
and its own fresh held-out tasks. Nothing is chosen by what comes out. Killed and run again, it goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from flywheel import artifacts
from flywheel.evaluate import report
from flywheel.evaluate.markdown import table
from flywheel.settings import Home
from flywheel.wheel import config, days, stages
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.versions import Version

STAGES = ("corpus", "sft", "trees", "pairs", "dpo", "rejection_sampling", "evaluation")


def turn(home: Home, wheel: WheelConfig) -> report.Report:
    """One turn up to its report."""
    for index in range(wheel.working_days):
        day = wheel.week_start + timedelta(days=index)
        days.agents(home, wheel, day)
        days.captures(home, wheel, day)
    end = wheel.week_start + timedelta(days=wheel.working_days)
    version = Version(1, datetime(end.year, end.month, end.day, tzinfo=UTC))
    for stage in STAGES:
        stages.run(stage, home, wheel, version)
    return report.load(home, version.key)


def rows(seed: int, found: report.Report) -> list[dict[str, object]]:
    """Success of each policy at each temperature, and the candidate's difference to it."""
    compared = {(c.second, c.second_temperature): c.paired for c in found.comparisons if c.first_temperature == 0}
    made: list[dict[str, object]] = []
    for rate in found.success:
        paired = compared.get((rate.policy, rate.temperature))
        made.append(
            {
                "seed": seed,
                "policy": rate.policy,
                "T": rate.temperature,
                "success": rate.success,
                "95 % interval": f"[{rate.low:.3f}, {rate.high:.3f}]",
                "checks first": rate.checked_first,
                "n": rate.n,
                "dpo greedy minus this": f"{paired.difference:+.3f} [{paired.low:+.3f}, {paired.high:+.3f}]"
                if paired
                else "",
                "p": f"{paired.p:.1g}" if paired else "",
            }
        )
    return made


def main() -> None:
    """Turn the wheel once for each seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--home", type=Path, default=Path("data/bench-learning"), help="a folder for each seed goes here"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/learning.md"))
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("flywheel").setLevel(logging.INFO)
    all_rows: list[dict[str, object]] = []
    verdicts: list[dict[str, object]] = []
    for seed in given.seeds:
        home = Home((given.home / f"seed-{seed}").resolve())
        wheel = msgspec.structs.replace(config.load(home), seed=seed)
        found = turn(home, wheel)
        all_rows += rows(seed, found)
        verdicts += [{"seed": seed, **row} for row in found.tables["Gate"]]
        trees = artifacts.read_json(next(home.trees.glob("v1-*/stats.json")))
        logging.getLogger("flywheel").info("seed %s: %s", seed, trees)
    page = [
        "# What a turn teaches",
        f"Written by `python bench/learning.py --seeds {' '.join(map(str, given.seeds))}` on {os.cpu_count()} cores "
        f"({platform.machine()}, Python {platform.python_version()}), without a GPU. Each seed has its own week, "
        "training, trees and fresh held-out tasks. The interval that decides is the wider of the one over tasks and "
        "the one over task groups; the best temperature of the others is picked on the same tasks, which favours them.",
        table(all_rows),
        "## The gate",
        table(verdicts),
    ]
    artifacts.write_bytes(given.out, ("\n\n".join(page) + "\n").encode())


if __name__ == "__main__":
    main()
