"""A wheel small enough for a test, turned without Dagster: a week, v1 and all of its stages, the aftermath, v2."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from flywheel.evaluate import report as reports
from flywheel.release import gate, registry
from flywheel.settings import Home
from flywheel.wheel import config as configs
from flywheel.wheel import days, stages, summary
from flywheel.wheel.config import FILE, WheelConfig
from flywheel.wheel.facts import Facts
from flywheel.wheel.versions import Version

# Small, but not too small: some of v1 is still pending, late outcomes change verdicts, trees give pairs.
TINY = """
environments = ["files"]
working_days = 4
aftermath_days = 3
episodes_a_day = 120
sft_steps = 90
tree_tasks = 24
tree_nodes = 16
rejection_steps = 3
heldout_tasks = 20
temperatures = [0.0, 1.0]
champion_episodes = 20
"""


def prepared(home: Home) -> WheelConfig:
    """The data folder with the tiny wheel's configuration in it."""
    home.root.mkdir(parents=True, exist_ok=True)
    (home.root / FILE).write_text(TINY)
    return configs.load(home)


def version(config: WheelConfig, number: int) -> Version:
    """v1 is as of the end of the week, v2 of the aftermath, v3 of as many days again."""
    days_before = config.working_days + (number - 1) * config.aftermath_days
    midnight = datetime.combine(config.week_start, datetime.min.time(), UTC)
    return Version(number, midnight + timedelta(days=days_before))


def live(home: Home, config: WheelConfig, first: int, count: int) -> dict[str, Facts]:
    """The days `first` .. `first + count` from the week's start, each stage brought to its end."""
    found: dict[str, Facts] = {}
    for index in range(first, first + count):
        day = config.week_start + timedelta(days=index)
        for stage in (days.agents, days.captures, days.outcomes):
            found[f"{day} {stage.__name__}"] = stage(home, config, day)
    return found


def learn(home: Home, config: WheelConfig, of: Version) -> dict[str, Facts]:
    """Every stage of a version in order; where the gate lets nobody through, a person promotes the candidate."""
    found: dict[str, Facts] = {}
    for stage in stages.TURN:
        found[f"v{of.number} {stage}"] = stages.run(stage, home, config, of)
        if stage == "champion" and registry.champion(home) is None:
            promote(home, of)
            found[f"v{of.number} {stage}"] = stages.run(stage, home, config, of)
    return found


def promote(home: Home, of: Version, champion_id: str | None = None) -> None:
    """What `flywheel gate REPORT --release --allow-first` does: a policy this small passes no other gate."""
    report = reports.load(home, of.key)
    candidate = report.entrant(report.candidate)
    allowing = gate.Rules(minimum_tasks=1, allow_first=True)
    verdict = gate.decide(reports.results_of(home, of.key), candidate.name, None, leaks=report.leaks, rules=allowing)
    registry.record(
        home,
        verdict,
        policy_id=candidate.policy_id,
        digest=candidate.digest,
        report=of.key,
        champion_id=champion_id,
    )


def first(home: Home) -> dict[str, Facts]:
    """The first turn: the week, v1, and all that is learned from it; facts by day or version, and stage."""
    config = prepared(home)
    return live(home, config, 0, config.working_days) | learn(home, config, version(config, 1))


def half(home: Home) -> dict[str, Facts]:
    """The half turn after it: late outcomes arrive, the champion's episodes are settled, v2 is made."""
    config = configs.load(home)
    found = live(home, config, config.working_days, config.aftermath_days)
    found["v2 corpus"] = stages.run("corpus", home, config, version(config, 2))
    logging.getLogger("flywheel.wheel").info("turn_report")
    found["turn_report"] = summary.turn_report(home, config)
    return found


def digests(facts: dict[str, Facts]) -> dict[str, str]:
    """What names the content of everything that was made."""
    return {stage: of.digest for stage, of in facts.items() if of.digest}


def brought(told: Connection, root: Path) -> None:
    """Bring the turn in a data folder to its end, in a process of its own; tells its log, then all digests."""
    logger = logging.getLogger("flywheel")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Telling(told))
    told.send(digests(first(Home(root)) | half(Home(root))))


class _Telling(logging.Handler):
    """What is logged goes over a connection."""

    def __init__(self, told: Connection) -> None:
        super().__init__()
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        self.told.send(record.getMessage())
