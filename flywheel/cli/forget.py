"""`flywheel forget`: a person or an episode, gone from captures, corpora and what came of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.schema import FlywheelError
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.capture.erasing.erasure import Erasure
    from flywheel.capture.erasing.traces import Traces

# Trajectories that are listed; --json has all.
SHOWN = 40


@app.command()
def forget(
    subject: Annotated[
        list[str] | None, typer.Option(help="A text that stands for a person: a name, an address. May be repeated.")
    ] = None,
    trajectory: Annotated[list[str] | None, typer.Option(help="A trajectory's id. May be repeated.")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", help="One workspace; all unless given.")] = None,
    because: Annotated[str, typer.Option(help="Why, for the record; name nobody in it.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    json: Json = False,
) -> None:
    """Erase every trajectory in which a text stands, or of an id, with all that was told of it and computed from it.

    A text is found as whole words, in messages, tool calls, results, metadata, ids and comments, whatever its case.
    What is erased never comes back. Each branch of a corpus that held it gets a version without it; old versions stay
    verifiable. Policies trained on it are marked. A record of it all stays in `erasures`. Without --subject and
    --trajectory, erasures that were interrupted are brought to their end.

    Example: flywheel forget --subject "Jane Doe" --subject jane.doe@example.org --dry-run

    Example: flywheel forget --trajectory 4f1c0a77 --workspace support --because "request of 3 May" --yes
    """
    from flywheel.capture.erasing.erasure import unfinished
    from flywheel.capture.erasing.traces import Asked
    from flywheel.corpus.catalog import refresh
    from flywheel.wheel import forget as forgetting

    if workspace is None:
        access.everywhere("admin")
    else:
        access.allowed("admin", workspace)
    asked = Asked(subjects=tuple(subject or ()), trajectories=tuple(trajectory or ()))
    if not subject and not trajectory and not dry_run and unfinished(home()):
        _report(forgetting.finish(home()), json)
        return
    found = forgetting.look(home(), asked, workspace)
    if not json:
        for name, traces in found.items():
            _show(name, traces)
    if dry_run or not found:
        if json:
            emit([_told(name, traces) for name, traces in found.items()])
        elif not found:
            say("nothing was found; nothing was changed")
        return
    if not yes:
        if json or not sys.stdin.isatty():
            raise FlywheelError("what is erased cannot be brought back: look with --dry-run, then add --yes")
        typer.confirm("Erase all this? It cannot be brought back", abort=True, err=True)
    done = forgetting.forget(home(), asked, workspace, because=because)
    refresh(home())
    _report(done, json)


def _told(workspace: str, traces: Traces) -> dict[str, object]:
    return {
        "workspace": workspace,
        "counts": traces.counts,
        "trajectories": traces.trajectories.to_pylist(),
        "alike": traces.alike,
    }


def _show(workspace: str, traces: Traces) -> None:
    table(f"found in {workspace}", list(traces.counts), [list(traces.counts.values())])
    columns = ["trajectory_id", "place", "task_id", "source", "arrived_at"]
    rows = traces.trajectories.select(columns).to_pylist()
    table("", columns, [list(row.values()) for row in rows[:SHOWN]])
    if len(rows) > SHOWN:
        say(f"and {len(rows) - SHOWN} more: --json lists all")
    if traces.alike:
        say(f"of the same content, and not asked for: {', '.join(traces.alike[:SHOWN])}")


def _report(done: list[Erasure], json: bool) -> None:
    if json:
        emit([{k: v for k, v in _fields(record).items() if k not in HIDDEN} for record in done])
        return
    for record in done:
        counts = ", ".join(f"{count} {what}" for what, count in record.counts.items() if count)
        say(f"erased from {record.workspace}: {counts}; the record is erasures/{record.id}.json")
        if record.versions:
            columns = ["version", "rows", "candidates", "made anew as"]
            rows = [(a.ref, a.rows, a.candidates, a.successor or "not made") for a in record.versions]
            table("versions that held them", columns, rows)
        if record.marked:
            columns = ["what", "id", "rows", "through", "serves"]
            table("what came of them", columns, [(m.kind, m.id, m.rows, m.through, m.serves) for m in record.marked])
        for path, count in (record.cleared or {}).items():
            say(f"cleared {path} of {count}")
        for path in record.left:
            say(f"it stands still in {path}, which is not ours to change")
        for marked in record.marked:
            if marked.serves:
                say(f"the champion {marked.id} came of erased rows; train one without them: {_anew(record)}")


# Digests that no reader needs.
HIDDEN = ("salt", "trajectories", "content_digests", "inputs", "subjects")


def _fields(record: Erasure) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _anew(record: Erasure) -> str:
    successor = next((a.successor for a in reversed(record.versions) if a.trained and a.successor), "CORPUS@vN")
    return f"flywheel train sft {successor}"
