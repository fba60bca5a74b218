"""The whole wheel: `flywheel demo` and `flywheel ui`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from flywheel import settings
from flywheel.cli import access, app, output

# Only `flywheel.defs` knows Dagster, and it is started as a process: the other commands work without it.
DEFS = [sys.executable, "-m"]


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what earlier demos made, and start anew.")] = False,
    json: output.Json = False,
) -> None:
    """Turn the wheel one and a half times on simulated agents, and print what came of it.

    A week of captures, corpus v1, a policy, rollout trees, preference pairs, a better policy, held-out evaluation,
    release; then the champion acts, late outcomes arrive, and corpus v2 is made. Killed at any moment and run
    again, it goes on where it was; run again when done, it recomputes nothing.

        flywheel demo
        flywheel demo --fresh
    """
    from flywheel.cli.evaluate import show
    from flywheel.evaluate.report import latest
    from flywheel.wheel.config import load

    home = access.allowed("admin", load(settings.home()).workspace)
    done = subprocess.run([*DEFS, "flywheel.defs.demo", *(["--fresh"] if fresh else [])], check=False)
    if done.returncode:
        raise typer.Exit(1)
    found = latest(home)
    show(found, json=json)
    output.say(f"report: {home.reports / found.id / 'report.md'}")
    output.say(f"corpus: {home.corpora / load(home).corpus}")
    output.say("next: `flywheel ui` shows every asset, and `flywheel corpus why ROW` why a row is in or out")


@app.command()
def ui(port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 3000) -> None:
    """Open the Dagster UI on 127.0.0.1 over the data folder, with the daemon that runs schedule and sensor.

    Example: flywheel ui --port 3001
    """
    from flywheel.wheel.config import load

    # What runs there is told of no token.
    access.allowed("admin", load(settings.home()).workspace)
    # This process becomes the UI, so that Ctrl-C reaches it and it can end what it started.
    os.execv(sys.executable, [*DEFS, "flywheel.defs.ui", str(port)])  # noqa: S606 - no shell
