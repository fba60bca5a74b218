"""`flywheel redaction`: what a workspace does about secrets, personal data and the layers of prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.schema import FlywheelError

redaction_app = typer.Typer(help="Redaction: what is replaced before anything is stored.", no_args_is_help=True)
app.add_typer(redaction_app, name="redaction")

Workspace = Annotated[str, typer.Argument(help="The workspace.")]


@redaction_app.command("show")
def show(workspace: Workspace, json: Json = False) -> None:
    """Show what is done about each kind, and what is kept of prompts.

    Example: flywheel redaction show support
    """
    from flywheel.capture import workspaces
    from flywheel.capture.redaction import policy as policies
    from flywheel.capture.redaction.detector import detector

    home = access.allowed("read", workspace)
    workspaces.require(home, workspace)
    policy = policies.of(home, workspace)
    kinds = {kind: policy.action(kind) for kind in sorted(detector(policy).kinds)}
    if json:
        emit({"workspace": workspace, "kinds": kinds, "policy": policy})
        return
    table(f"redaction in {workspace}", ["kind", "action"], kinds.items())
    place = policies.path(home, workspace)
    say(place.read_text().strip() if place.exists() else "no policy of its own: all kinds are masked, all layers kept")


@redaction_app.command("set")
def set_policy(
    workspace: Workspace,
    file: Annotated[Path, typer.Argument(help="A policy in TOML; - for standard input.", allow_dash=True)],
    json: Json = False,
) -> None:
    """Make a file the policy of a workspace: it holds for all that comes in from now on.

    What is stored already stays as it is; `flywheel forget` takes out what should not be there.

    Example: flywheel redaction set support policy.toml

    Example: echo 'default = "hash"' | flywheel redaction set support -
    """
    from flywheel.capture import importers
    from flywheel.capture.redaction import policy as policies

    policy = policies.save(access.allowed("admin", workspace), workspace, _read(file))
    if json:
        emit({"workspace": workspace, "policy": policy})
        return
    say(f"set; try it with: flywheel redaction test {workspace} 'some text'")
    # A mistaken name would keep, without a word, what should not be kept.
    formats = {importer.NAME for importer in importers.known().importers}
    for source in sorted(set(policy.boundary) - {"*", "recorder", "gateway", "otlp", "http"} - formats):
        say(f"boundary.{source} holds for recorders that were given the name {source!r} alone: no other way in has it")


@redaction_app.command("test")
def test(
    workspace: Workspace,
    text: Annotated[str, typer.Argument(help="A text to redact; - for standard input.")] = "-",
    policy: Annotated[Path | None, typer.Option(help="A policy to try instead of the workspace's.")] = None,
    json: Json = False,
) -> None:
    """Show what would be stored of a text, and count what was replaced. Nothing is stored.

    Example: flywheel redaction test support "write to ann@example.org"

    Example: flywheel redaction test support - --policy policy.toml < transcript.txt
    """
    from functools import partial

    from flywheel.capture import workspaces
    from flywheel.capture.redaction import policy as policies
    from flywheel.capture.redaction.redact import Redactor, redactor

    home = access.allowed("read", workspace)
    workspaces.require(home, workspace)
    trial = policies.parsed(_read(policy)) if policy else None
    made = Redactor(trial, partial(policies.key, home, workspace)) if trial else redactor(home, workspace)
    clean = made.text(sys.stdin.read() if text == "-" else text)
    counts = dict(sorted(made.counts.items()))
    if json:
        emit({"text": clean, "redactions": counts})
    else:
        sys.stdout.write(clean if clean.endswith("\n") else clean + "\n")
        say(f"replaced: {', '.join(f'{count} {kind}' for kind, count in counts.items()) or 'nothing'}")


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FlywheelError(f"{file} cannot be read: {error}") from error
