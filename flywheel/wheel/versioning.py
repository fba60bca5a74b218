"""The corpus stage: one version of the wheel's corpus, made or made again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from flywheel import environments, warehouse
from flywheel.capture.settling.settle import settle
from flywheel.corpus.decisions import relation
from flywheel.corpus.defence import graduation
from flywheel.corpus.diff import diff
from flywheel.corpus.manifest import Manifest, load, manifest, versions
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.reference import MAIN
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.spec import Spec
from flywheel.outcomes.policy import checked
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.wheel import checks, forget, late
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts, Row
from flywheel.wheel.versions import Version

# Where rows of the table stand; the reasons between what goes in and what changed.
ORDER = {"as of": 0, "candidates": 1, "in": 2, "changed by late outcomes": 4, "digest": 5}


def spec(config: WheelConfig) -> Spec:
    """What the wheel asks of a version: the checker's verdict, unless a late signal of an environment undoes it."""
    vetoes = sorted(environments.get(name).late_signal for name in config.environments)
    return Spec(
        workspace=config.workspace,
        filter=config.filter,
        reward_policy=checked(*vetoes),
        holdout_percent=config.holdout_percent,
    )


def corpus(home: Home, config: WheelConfig, version: Version) -> Facts:
    """Make the version; where it was made before, make it again from the captures and compare.

    An erasure that was interrupted is brought to its end first.

    Raises:
        FlywheelError: when a version made again differs from what it was.
    """
    with timed(home, version.key, "corpus"):
        forget.finish(home)
        if late.exists(home, config, version):
            again = rebuild(home, config.corpus, version.number)
            if not again.explained:
                raise FlywheelError(
                    f"{config.corpus}@v{version.number} made again has digest {again.digest[:12]}, not "
                    f"{again.expected[:12]}: {len(again.differences)} rows differ, the first: {again.differences[0]}"
                )
        else:
            settle(home, config.workspace, now=min(datetime.now(UTC), version.as_of))
            snapshot(home, config.corpus, spec(config), version.as_of, version=version.number)
    return facts(home, config, version)


def facts(home: Home, config: WheelConfig, version: Version) -> Facts:
    """The version's manifest as facts, with a plot of why candidates are in or out."""
    of = manifest(home, config.corpus, version.number)
    plot = home.corpora / config.corpus / "plots" / f"v{version.number}.png"
    _plot(plot, of.reasons)
    return Facts(
        digest=of.digest,
        counts={
            "rows": of.rows,
            "candidates": of.candidates,
            "changed by late outcomes": changed(home, config, version),
        },
        tables={
            "reasons": [{"reason": reason, "rows": n} for reason, n in sorted(of.reasons.items())],
            "defence": [checks.finding_row(finding) for finding in graduation.audit(home, of).findings],
            **_differences(home, of),
        },
        plots={"in and out": plot},
    )


def _differences(home: Home, of: Manifest) -> dict[str, list[Row]]:
    """What the version changes against its parent, by cause and row by row; nothing for a first version."""
    if of.parent not in versions(home, of.name):
        return {}
    told = diff(home, of.name, of.parent, of.version)
    counted = Counter((row["change"], row["why"]) for row in told["rows"])
    return {
        f"changed since v{of.parent}": [
            {"rows": n, "change": c, "why": why} for (c, why), n in sorted(counted.items())
        ],
        "rows that changed": [_told(row) for row in told["rows"]],
    }


def _told(row: Row) -> Row:
    sides = {
        name: f"{side['reason']}, {side['reward']}" if side else ""
        for name, side in (("before", row["before"]), ("after", row["after"]))
    }
    facts = "; ".join(f"{o['signal']} {o['value']:g} at {o['arrived_at']:%Y-%m-%d %H:%M}" for o in row["outcomes"])
    return {"trajectory": row["trajectory_id"], "change": row["change"], "why": row["why"], **sides, "outcomes": facts}


def changed(home: Home, config: WheelConfig, version: Version) -> int:
    """Rows whose verdict stood in the version before and differs in this one: what late outcomes changed."""
    of = manifest(home, config.corpus, version.number)
    if of.parent not in versions(home, config.corpus):
        return 0
    before = relation(home, load(home, config.corpus, of.parent))
    with warehouse.connect() as connection:
        [(count,)] = connection.sql(
            f"""
            SELECT count(*) FROM {before} AS b JOIN {relation(home, of)} AS n USING (trajectory_id)
            WHERE b.state = 'resolved' AND (n.state, n.success) IS DISTINCT FROM (b.state, b.success)
            """
        ).fetchall()
    return count


def table(home: Home, config: WheelConfig) -> list[Row]:
    """One column a version: candidates, rows in, out by reason, and rows changed by late outcomes."""
    columns: dict[str, dict[str, object]] = {}
    for number in versions(home, config.corpus, MAIN):
        of = manifest(home, config.corpus, number)
        columns[f"v{number}"] = {
            "as of": f"{of.as_of:%Y-%m-%d %H:%M}",
            "candidates": of.candidates,
            "in": of.rows,
            **{f"  {reason}": of.reasons[reason] for reason in sorted(of.reasons)},
            "changed by late outcomes": changed(home, config, Version(number, of.as_of)),
            "digest": of.digest[:12],
        }
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    names.sort(key=lambda name: (ORDER.get(name, 3), name))
    return [{"": name.strip(), **{v: column.get(name, 0) for v, column in columns.items()}} for name in names]


def _plot(path: Path, reasons: dict[str, int]) -> None:
    from matplotlib.figure import Figure

    names = sorted(reasons, key=lambda name: reasons[name])
    figure = Figure(figsize=(6, 0.35 * len(names) + 1), layout="tight")
    axes = figure.add_subplot(xlabel="candidates")
    bars = axes.barh(names, [reasons[name] for name in names])
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.12)  # room for the label of the longest
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
