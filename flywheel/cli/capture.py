"""`flywheel workspace`, `ingest`, `outcome`, `settle`: what comes in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, fail, progress, say, table
from flywheel.cli.times import MOMENTS, utc
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.capture.ingest import Report

workspace_app = typer.Typer(help="Workspaces: isolated places for captures.", no_args_is_help=True)
app.add_typer(workspace_app, name="workspace")

Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace to write to.")]


@workspace_app.command("create")
def create(name: Annotated[str, typer.Argument(help="Letters, digits, '-' and '_'.")], json: Json = False) -> None:
    """Create a workspace; one that exists stays as it is.

    Example: flywheel workspace create support
    """
    from flywheel.capture import workspaces

    made = workspaces.create(access.allowed("admin", name), name)
    if json:
        emit(made)
    else:
        say(f"workspace {made.name} is ready; bring captures in with: flywheel ingest PATH -w {made.name}")


@workspace_app.command("list")
def list_workspaces(json: Json = False) -> None:
    """List the workspaces, those that one may use.

    Example: flywheel workspace list --json
    """
    from flywheel.capture import workspaces

    there = [workspaces.require(home(), name) for name in access.listed()]
    if json:
        emit(there)
    else:
        table("workspaces", ["name", "created"], [(w.name, f"{w.created_at:%Y-%m-%d %H:%M}") for w in there])


QUARANTINED = 'see what was quarantined with: flywheel query "SELECT source, line, error FROM quarantine"'
# As `capture.importers` has them, which would take a while to import for a line of help.
FORMATS = (
    *("alpaca", "anthropic-messages", "api-calls", "claude-code", "hermes", "intercode", "langfuse", "openai-chat"),
    *("openai-responses", "otlp", "sharegpt", "swe-agent", "tau-bench", "tau2"),
)


@app.command()
def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders of .json, .jsonl, .ndjson and .traj files (.gz too).")
    ],
    workspace: Workspace,
    format: Annotated[
        str, typer.Option(help=f"{', '.join(FORMATS)}, or one of `flywheel formats`; auto finds out.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Bring captures in from files: each record once, malformed ones to quarantine, rewards to the outcome ledger.

    Ends with 1 where not one record could be read.

    Example: flywheel ingest results/gpt-4o-airline.json --workspace airline

    Example: flywheel ingest chats.jsonl -w support --format openai-chat --json
    """
    from flywheel.capture import ingest as ingesting

    access.allowed("capture", workspace)
    access.files("read", *paths)
    with progress() as display:
        size = sum(path.stat().st_size for path in ingesting.files(paths))
        bar = display.add_task("ingest (bytes)", total=size)
        report = ingesting.ingest(
            home(), paths, workspace, format, progress=lambda done: display.update(bar, completed=done)
        )
    total = report.total
    if json:
        emit(report)
    else:
        _print(report)
    for file in report.files:
        if file.error:
            say(file.error)
    for broken in report.broken:
        say(broken)
    if total.quarantined:
        say(QUARANTINED)
    if total.records == total.quarantined:
        fail(f"none of the {total.records} records could be read")
        raise typer.Exit(1)


def _print(report: Report) -> None:
    columns = {
        "records": "records",
        "added": "added",
        "already_there": "known",
        "erased": "erased",
        "duplicates": "twice",
        "quarantined": "bad",
        "outcomes": "outcomes",
        "steps": "steps",
        "tool_calls": "calls",
    }
    files = [*report.files, report.total] if len(report.files) > 1 else report.files
    table(
        f"ingested into {report.workspace}",
        ["file", *columns.values()],
        [("/".join(Path(f.path).parts[-2:]), *(getattr(f, column) for column in columns)) for f in files],
    )
    redacted = ", ".join(f"{count} {kind}" for kind, count in report.total.redactions.items())
    say(f"formats: {', '.join(sorted({f.format or 'none' for f in report.files}))}; replaced: {redacted or 'nothing'}")


@app.command()
def formats(json: Json = False) -> None:
    """List the formats that `flywheel ingest` reads, with those of other packages, and packages that cannot be used.

    Example: flywheel formats
    """
    from flywheel.capture import importers

    known = importers.known()
    rows = [(importer.NAME, known.packages.get(importer.NAME, "flywheel")) for importer in known.importers]
    if json:
        emit({"formats": [{"format": name, "package": package} for name, package in rows], "broken": known.broken})
        return
    table("formats", ["format", "package"], sorted(rows))
    for broken in known.broken:
        say(broken)


@app.command()
def outcome(
    trajectory: Annotated[str, typer.Argument(help="The id of a stored trajectory.")],
    signal: Annotated[str, typer.Argument(help="What is told: reward, success, reopened, merged, ...")],
    value: Annotated[float, typer.Argument(help="In the signal's own units; a success is 1, a failure 0.")],
    workspace: Workspace,
    source: Annotated[str, typer.Option(help="Who says so.")] = "person",
    observed_at: Annotated[
        datetime | None, typer.Option(help="When it was true (UTC); now unless given.", formats=MOMENTS)
    ] = None,
    step: Annotated[int | None, typer.Option(help="The index of the one step that it is about, from 0.")] = None,
    comment: Annotated[str, typer.Option(help="Why, in a sentence.")] = "",
    json: Json = False,
) -> None:
    """Append one outcome to a trajectory by hand.

    Example: flywheel outcome 4f1c... reopened 1 --workspace support --comment "customer came back"
    """
    from flywheel.capture.feedback import ledger

    told = ledger.tell(
        access.allowed("capture", workspace, trajectory),
        workspace,
        trajectory,
        signal,
        value,
        source=source,
        observed_at=utc(observed_at) if observed_at else None,
        step_index=step,
        comment=comment,
    )
    if json:
        emit(told)
    else:
        say(f"{signal} = {value:g} is in the ledger for {trajectory}")


@app.command()
def settle(
    workspace: Workspace,
    idle: Annotated[
        float, typer.Option(min=0, help="Minutes without a call after which a conversation of the server is over.")
    ] = 15.0,
    json: Json = False,
) -> None:
    """Store what recorders have written to their journals, and close the time up to now.

    Example: flywheel settle --workspace support

    Example: flywheel settle --workspace support --idle 0
    """
    from flywheel.capture.settling.settle import settle as settling
    from flywheel.wheel import forget

    access.allowed("capture", workspace)
    forget.finish(home())
    settled = settling(home(), workspace, datetime.now(UTC), timedelta(minutes=idle))
    if json:
        emit(settled)
    else:
        fields = settled.__struct_fields__
        table(f"settled {workspace}", [f.replace("_", " ") for f in fields], [[getattr(settled, f) for f in fields]])
        if settled.quarantined:
            say(QUARANTINED)
        if settled.waiting and idle:
            say("what waits may go on still; of calls and traces --idle 0 stores what there is")
