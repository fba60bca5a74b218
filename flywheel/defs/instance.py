"""The Dagster instance of a data folder: all of its state lies under the folder's `dagster/`."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.settings import Home

FILE = "dagster.yaml"


def prepare(home: Home) -> Path:
    """Place the project's `dagster.yaml` in the data folder and point DAGSTER_HOME and FLYWHEEL_HOME there."""
    source = Path(__file__).parents[2] / FILE
    if not source.exists():
        raise FlywheelError(f"{FILE} is not beside the package: run from a checkout of the project")
    target = home.dagster / FILE
    if not target.exists() or target.read_bytes() != source.read_bytes():
        artifacts.write_bytes(target, source.read_bytes())
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    os.environ["FLYWHEEL_HOME"] = str(home.root)
    return home.dagster


def open_instance(home: Home) -> dg.DagsterInstance:
    """The instance of a data folder; runs that a killed process left running are closed as cancelled."""
    prepare(home)
    instance = dg.DagsterInstance.get()
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(started):
        if run.tags.get("flywheel/pid") and not _alive(int(run.tags["flywheel/pid"])):
            instance.report_run_canceled(run, message="The process of this run was ended; a later run went on from it.")
    return instance


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
