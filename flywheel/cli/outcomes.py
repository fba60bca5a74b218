"""`flywheel outcomes`: what is known of each trajectory, what a reward policy makes of it, and how late it comes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, fail, progress, say, table
from flywheel.cli.times import MOMENTS, utc
from flywheel.outcomes import policy as policies
from flywheel.schema import FlywheelError
from flywheel.settings import home

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flywheel.outcomes.explain import Explanation

outcomes_app = typer.Typer(help="Outcomes: the ledger, and the verdicts it gives.", no_args_is_help=True)
app.add_typer(outcomes_app, name="outcomes")

AsOf = Annotated[
    datetime | None, typer.Option(help="What was known at this moment (UTC); now unless given.", formats=MOMENTS)
]
Policy = Annotated[
    Path | None,
    typer.Option(help="A reward policy (TOML or JSON); the wheel's own for its workspace, else the signal 'reward'."),
]


@outcomes_app.command("show")
def show(
    workspace: Annotated[str, typer.Argument(help="The workspace to read.")],
    as_of: AsOf = None,
    trajectory: Annotated[str | None, typer.Option(help="One trajectory: its verdict and every fact about it.")] = None,
    policy: Policy = None,
    json: Json = False,
) -> None:
    """Show the verdicts on a workspace's trajectories as of a moment.

    Example: flywheel outcomes show production

    Example: flywheel outcomes show production --as-of 2026-11-09 --json

    Example: flywheel outcomes show airline --trajectory 5f2c0d6b
    """
    from flywheel.capture import workspaces
    from flywheel.outcomes.join import joined
    from flywheel.outcomes.ledger import facts

    workspaces.require(access.allowed("read", workspace, trajectory or ""), workspace)
    moment, chosen = _moment(as_of), _chosen(policy, workspace)
    verdicts = joined(home(), workspace, chosen, moment).to_pylist()
    if trajectory is not None:
        verdicts = [row for row in verdicts if row["trajectory_id"] == trajectory]
        if not verdicts:
            raise FlywheelError(f"no trajectory {trajectory!r} had arrived in {workspace!r} by {moment.isoformat()}")
    known = facts(home(), workspace, as_of=moment, trajectory_id=trajectory).to_pylist() if trajectory else []
    states = Counter(row["state"] for row in verdicts)
    if json:
        document: dict[str, Any] = {
            "workspace": workspace,
            "as_of": moment,
            "policy": {"hash": chosen.hash, "config": chosen},
            "trajectories": len(verdicts),
            "states": dict(sorted(states.items())),
            "successes": sum(bool(row["success"]) for row in verdicts),
            "verdicts": verdicts,
        }
        emit(document | ({"facts": known} if trajectory else {}))
        return
    _print(workspace, moment, chosen.name, verdicts, states)
    if trajectory:
        columns = ["signal", "value", "step_index", "source", "checker_version", "observed_at", "arrived_at", "comment"]
        table("facts", columns, [[fact[column] for column in columns] for fact in known])


@outcomes_app.command("explain")
def explain(
    trajectory: Annotated[str, typer.Argument(help="A trajectory's id, or the beginning of one.")],
    workspace: Annotated[str | None, typer.Option(help="The workspace to look in; all of them unless given.")] = None,
    as_of: AsOf = None,
    policy: Policy = None,
    json: Json = False,
) -> None:
    """Explain a trajectory's reward: the rows of the ledger about it, how each counted, and the arithmetic.

    Example: flywheel outcomes explain 5f2c0d6b

    Example: flywheel outcomes explain 5f2c0d6b --as-of 2026-11-09 --policy strict.toml --json
    """
    from flywheel.outcomes.explain import explain, find

    if workspace:
        access.allowed("read", workspace, trajectory)
    seen = None if workspace else access.seen("read")
    of, found = find(home(), trajectory, [workspace] if workspace else seen and seen.workspaces)
    explained = explain(home(), of, _chosen(policy, of), found, _moment(as_of))
    if json:
        emit(explained)
        return
    _print_explanation(explained)


@outcomes_app.command("lag")
def lag(
    workspace: Annotated[str | None, typer.Option(help="The workspace; the wheel's own unless given.")] = None,
    as_of: AsOf = None,
    policy: Policy = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG.")] = None,
    json: Json = False,
) -> None:
    """Show how late each signal arrives, what revisions changed, and what waiting longer would have changed.

    Example: flywheel outcomes lag

    Example: flywheel outcomes lag --workspace support --plot lag.png --json
    """
    from flywheel.capture import workspaces
    from flywheel.outcomes.lag import curves, draw
    from flywheel.wheel.config import load

    workspace = workspace or load(home()).workspace
    workspaces.require(access.allowed("read", workspace), workspace)
    moment, chosen = _moment(as_of), _chosen(policy, workspace)
    found = curves(home(), workspace, chosen, moment)
    title = f"{workspace} as of {moment:%Y-%m-%d %H:%M:%S} UTC, policy {chosen.name}"
    if plot is not None:
        draw(found, plot, title)
    tables = {"lags": found.lags, "revisions": found.revisions, "waits": found.waits}
    if json:
        document = {"workspace": workspace, "as_of": moment, "policy": {"hash": chosen.hash, "config": chosen}}
        rows = {name: of.to_pylist() for name, of in {**tables, "curves": found.curves}.items()}
        emit(document | rows | {"plot": plot})
        return
    say(title)
    titles = ("hours to the first outcome", "what revisions changed", "had the verdict been given after so many hours")
    for heading, of in zip(titles, tables.values(), strict=True):
        cells = [[_short(value) for value in row.values()] for row in of.to_pylist()]
        table(heading, [name.replace("_", " ") for name in of.column_names], cells)
    if plot is not None:
        say(f"drawn: {plot}")


@outcomes_app.command("import")
def import_file(
    path: Annotated[Path, typer.Argument(help="A .csv or .tsv file with a header, or JSON Lines.")],
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="The workspace to write to.")],
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="COLUMN=FIELD, for a column that does not bear its field's name.")
    ] = None,
    signal: Annotated[str, typer.Option(help="The signal of rows that name none.")] = "",
    source: Annotated[str, typer.Option(help="Who says so, in rows that name nobody; 'file' unless given.")] = "",
    timezone: Annotated[
        str, typer.Option(help="Where times without a zone were written: UTC, Europe/Berlin, ...")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check all of it, and store nothing.")] = False,
    json: Json = False,
) -> None:
    """Import outcomes from a file: each once, however often it is read; malformed rows go to quarantine.

    Columns: trajectory_id, signal, value; source, checker_version, step_index, observed_at, comment, key.
    Ends with 1 where not one row could be read.

    Example: flywheel outcomes import verdicts.csv --workspace support

    Example: flywheel outcomes import nps.csv -w support --map id=trajectory_id --map score=value --signal nps --dry-run
    """
    from flywheel.capture.feedback import outcome_files

    pairs = [pair.rpartition("=") for pair in columns or []]
    if any(not column or not field for column, _, field in pairs):
        raise typer.BadParameter("write it as COLUMN=FIELD", param_hint="--map")
    size = path.stat().st_size if path.is_file() else 0
    with progress() as display:
        bar = display.add_task("import (bytes)", total=size)
        report = outcome_files.load(
            access.allowed("capture", workspace, path.name),
            path,
            workspace,
            columns={column: field for column, _, field in pairs},
            signal=signal,
            source=source,
            zone=_zone(timezone) if timezone else None,
            dry_run=dry_run,
            progress=lambda done: display.update(bar, completed=done),
        )
    if json:
        emit(report)
    else:
        shown = ["rows", "added", "already_there", "erased", "quarantined"]
        title = f"{path.name}, nothing stored" if dry_run else f"imported {path.name} into {workspace}"
        table(title, [name.replace("_", " ") for name in shown], [[getattr(report, name) for name in shown]])
        said = ", ".join(f"{count} {name}" for name, count in report.signals.items())
        say(f"signals: {said or 'none'}")
        if report.ignored_columns:
            say(f"not read: {', '.join(report.ignored_columns)}")
        for line, error in report.errors:
            say(f"line {line}: {error}")
        if any("has no time zone" in error for _, error in report.errors):
            say("where all times without a zone were written, --timezone says so: --timezone UTC")
    if report.unknown_trajectories:
        say(
            f"{report.unknown_trajectories} trajectories are not stored (yet): "
            "what was told of them is kept, and counts when they come"
        )
    if report.rows and report.rows == report.quarantined:
        fail(f"none of the {report.rows} rows could be read")
        raise typer.Exit(1)


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FlywheelError(f"there is no time zone {name!r}; write it as UTC or Europe/Berlin") from error


def _print_explanation(of: Explanation) -> None:
    say(f"{of.trajectory_id} ({of.workspace}, {of.task_type}), arrived {of.arrived_at:%Y-%m-%d %H:%M:%S} UTC")
    columns = [
        "signal",
        "value",
        "counted",
        "step_index",
        "source",
        "checker_version",
        "observed_at",
        "arrived_at",
        "id",
    ]
    title = f"{of.verdict['state']} as of {of.as_of:%Y-%m-%d %H:%M:%S} UTC, policy {of.policy}: {of.arithmetic}"
    table(title, columns, [[row[column] for column in columns] for row in of.ledger])
    if of.silent:
        rows = [[row["signal"], row["until"], row["then"], "" if row["matters"] else "outranked"] for row in of.silent]
        table("silent", ["signal", "waited for until", "then", ""], rows)


def _short(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def _moment(as_of: datetime | None) -> datetime:
    return utc(as_of) if as_of else datetime.now(UTC)


def _chosen(policy: Path | None, workspace: str) -> policies.RewardPolicy:
    return policies.load(policy) if policy else _policy_of(workspace)


def _print(workspace: str, moment: datetime, name: str, verdicts: list[dict[str, Any]], states: Counter[str]) -> None:
    rows = []
    for state, count in sorted(states.items()):
        rewards = [row["reward"] for row in verdicts if row["state"] == state and row["reward"] is not None]
        successes = sum(bool(row["success"]) for row in verdicts if row["state"] == state)
        rows.append(
            (state, count, successes if rewards else "", f"{sum(rewards) / len(rewards):.3f}" if rewards else "")
        )
    title = f"{workspace} as of {moment:%Y-%m-%d %H:%M:%S} UTC, policy {name}"
    table(title, ["state", "trajectories", "successes", "mean reward"], rows)


def _policy_of(workspace: str) -> policies.RewardPolicy:
    """The wheel's reward policy in its own workspace, the default one in any other."""
    from flywheel.wheel.config import load

    config = load(home())
    if workspace != config.workspace:
        return policies.RewardPolicy()
    from flywheel.wheel.versioning import spec

    return spec(config).reward_policy
