"""What must hold of a version: each check gives the rows that show what is wrong, none where all is well."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.corpus import store
from flywheel.corpus.defence import graduation
from flywheel.corpus.defence.findings import Finding
from flywheel.corpus.manifest import manifest as manifest_of
from flywheel.corpus.rebuild import rebuild
from flywheel.curate import derived, prepared
from flywheel.curate.leakage import COLUMNS, audit
from flywheel.evaluate import report as reports
from flywheel.evaluate import suites
from flywheel.evaluate.suite import Suite
from flywheel.release.gate import Rules, Verdict, decide
from flywheel.schema import TRAJECTORIES
from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.facts import Row
from flywheel.wheel.versions import Version

# What the first champion must beat, as far as it was judged: whoever acted before, and plain imitation of them.
FIRST = ("empty", "captured agents", "sft")


def suite(config: WheelConfig) -> Suite:
    """The held-out tasks on which every policy of this wheel is judged."""
    return Suite(
        environments=dict.fromkeys(config.environments, config.heldout_tasks),
        seed=9_000_001 + config.seed,
        temperatures=config.temperatures,
    )


def rules(config: WheelConfig) -> Rules:
    """The gate's rules, for suites of this wheel's size."""
    tasks = config.heldout_tasks * len(config.environments)
    return Rules(baselines=FIRST, minimum_tasks=min(Rules().minimum_tasks, tasks))


def schema(home: Home, config: WheelConfig, version: Version) -> list[Row]:
    """Columns that are missing or of another type, and counts that do not add up."""
    manifest = manifest_of(home, config.corpus, version.number)
    found = prepared.given(derived.opened(home, manifest.recipe["workspace"], prepared.ROWS))
    wrong: list[Row] = [
        {"column": field.name, "expected": str(field.type), "found": str(found.field(field.name).type)}
        if field.name in found.names
        else {"column": field.name, "expected": str(field.type), "found": "missing"}
        for field in TRAJECTORIES
        if field.name not in found.names or found.field(field.name).type != field.type
    ]
    if sum(manifest.reasons.values()) != manifest.candidates:
        wrong.append({"column": "reasons", "expected": str(manifest.candidates), "found": str(manifest.reasons)})
    return wrong


def leakage(home: Home, config: WheelConfig, version: Version) -> list[Row]:
    """Training rows of the version that give a held-out task away: of this wheel's suite, or of any that is known."""
    of = manifest_of(home, config.corpus, version.number)
    training = store.batches(home, of, "train", COLUMNS)
    return audit(training, suites.audited(home, [suite(config)])).to_pylist()


def reproducible(home: Home, config: WheelConfig, version: Version) -> list[Row]:
    """Rows that differ when the version is decided again from the captures."""
    differences = rebuild(home, config.corpus, version.number).differences
    return [row for row in differences if not row["why"]]


def defended(home: Home, config: WheelConfig, version: Version) -> list[Row]:
    """What holds the version, until a person lets it graduate."""
    of = manifest_of(home, config.corpus, version.number)
    found = graduation.audit(home, of)
    if graduation.graduated(home, of):
        return []
    return [finding_row(finding) for finding in found.findings if finding.level == "hold"]


def finding_row(finding: Finding) -> Row:
    """A finding as a row of a table."""
    return {
        "kind": finding.kind,
        "level": finding.level,
        "measure": finding.measure,
        "limit": finding.limit,
        "rows": finding.rows,
        "what": finding.detail,
        "next": finding.advice,
    }


CORPUS: dict[str, Callable[[Home, WheelConfig, Version], list[Row]]] = {
    "schema": schema,
    "leakage": leakage,
    "reproducible": reproducible,
    "defence": defended,
}


def gate(home: Home, config: WheelConfig, version: Version) -> Verdict:
    """The verdict on the candidate of the version's report."""
    report = reports.load(home, version.key)
    results = reports.results_of(home, version.key)
    return decide(results, report.candidate, report.champion, leaks=report.leaks, rules=rules(config))
