"""The turn on one page: the judgement of the newest version, completed with what led to it."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from flywheel import artifacts
from flywheel.evaluate import report
from flywheel.settings import Home
from flywheel.wheel import cycle, learning, versioning
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.facts import Facts
from flywheel.wheel.versions import Version, among


def turn_report(home: Home, config: WheelConfig) -> Facts:
    """Complete the newest version's report: corpus versions, tree cost, pairs and cycle time beside the judgement."""
    artifacts.sweep(home.root)
    judged = max(among(report.ids(home)), default=None)
    if judged is None:
        return Facts()
    made = report.load(home, judged.key)
    results = report.results_of(home, judged.key)
    trees, pairs = learning.trees_facts(home, judged), learning.pairs_facts(home, judged)
    tables = {
        "Gate": made.tables["Gate"],
        "Rollout trees": [{"figure": name, "value": value} for name, value in (trees.counts | pairs.counts).items()],
        "Branch points by reason": pairs.tables["reasons"],
        "Corpus versions": versioning.table(home, config),
        "Cycle time": cycle.table(home, turn(home, config, judged)),
    }
    own = {name: home.reports / judged.key / file for name, file in made.plots.items() if name.startswith("Loss")}
    copies = {name: path for name, path in own.items() if path.exists()}
    place = report.write(home, msgspec.structs.replace(made, tables=tables), results, copies)
    return Facts(
        counts={"report": judged.key},
        tables={"corpus versions": tables["Corpus versions"], "cycle time": tables["Cycle time"]},
        plots={"success": place / "success.png"},
    )


def turn(home: Home, config: WheelConfig, version: Version) -> set[str]:
    """The keys of one turn: the version, and the days that ended by its time and after the turn before it."""
    before = [earlier.as_of for earlier in among(report.ids(home)) if earlier.as_of < version.as_of]
    since = max(before).date() if before else config.week_start
    days = max(0, (version.as_of.date() - since).days)
    return {version.key} | {(since + timedelta(days=n)).isoformat() for n in range(days)}
