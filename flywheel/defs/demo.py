"""The demo: one and a half turns of the wheel through the assets that the UI shows; run again, it goes on."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from flywheel import settings
from flywheel.capture import access
from flywheel.cli import output
from flywheel.defs import automation
from flywheel.defs.instance import open_instance, prepare
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.wheel import config, simulation, versions

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Demo:
    """The steps of the demo, each skipped when Dagster knows it as done."""

    def __init__(self, home: Home) -> None:
        prepare(home)
        self.home = home
        self.config = config.load(home)
        self.instance = open_instance(home)
        self.jobs = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
        self.done = 0
        self.skipped = 0

    def days(self, first: int, count: int) -> None:
        """Bring the days `first` .. `first + count` of the week to their end."""
        for index in range(first, first + count):
            day = self.config.week_start + timedelta(days=index)
            self._run("day", day.isoformat(), automation.DAY)

    def version(self, day_count: int, assets: list[dg.AssetsDefinition]) -> None:
        """Bring a version, as of the midnight after `day_count` days, to the last of the given assets."""
        as_of = _midnight(self.config.week_start + timedelta(days=day_count))
        known = self.instance.get_dynamic_partitions("versions")
        version = versions.following(known, as_of)
        if version.key not in known:
            self.instance.add_dynamic_partitions("versions", [version.key])
        self._run("turn", version.key, assets)

    def report(self) -> None:
        """Write the page of the whole turn, when anything was made since."""
        key = dg.AssetKey("turn_report")
        if self.done or not self.instance.get_latest_materialization_event(key):
            newest = max(self.instance.get_dynamic_partitions("versions"), key=lambda k: versions.parse(k).number)
            self._execute("turn", newest, [key])

    def _run(self, job: str, partition: str, assets: list[dg.AssetsDefinition]) -> None:
        missing = [
            asset.key for asset in assets if partition not in self.instance.get_materialized_partitions(asset.key)
        ]
        self.skipped += len(assets) - len(missing)
        if missing:
            self._execute(job, partition, missing)
            self.done += len(missing)

    def _execute(self, job: str, partition: str, assets: list[dg.AssetKey]) -> None:
        result = self.jobs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=assets,
            run_config=QUIET,
            tags={"flywheel/pid": str(os.getpid()), "flywheel/reason": "demo"},
            raise_on_error=False,
        )
        if not result.success:
            failed = ", ".join(event.step_key or "" for event in result.get_step_failure_events())
            raise FlywheelError(
                f"{failed or job} of {partition} failed, as told above; run {result.run_id} in `flywheel ui` has its "
                "log. Run the demo again to go on from there"
            )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the data folder's lock; it falls with the process, however that ends."""
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / ".demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FlywheelError(f"a demo is already running on {home.root}") from error
        yield


def clear(home: Home) -> None:
    """Remove what earlier demos made; refused where the folder holds workspaces of somebody else, or guarded ones."""
    mine = config.load(home).workspace
    if access.guarded(home, mine):
        raise FlywheelError(
            f"workspace {mine!r} is guarded by tokens, which would go too: name another folder in FLYWHEEL_HOME, "
            "or remove it yourself"
        )
    others = sorted(p.stem for p in home.workspaces.glob("*.json") if p.stem != mine)
    if others:
        raise FlywheelError(
            f"{home.root} holds other workspaces ({', '.join(others)}): "
            "name another folder in FLYWHEEL_HOME, or remove it yourself"
        )
    for path in home.root.iterdir() if home.root.is_dir() else []:
        if path.name in {config.FILE, ".demo.lock", "sample", home.audit.name}:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(home: Home) -> Demo:
    """One and a half turns: a week, a version and its whole turn, the aftermath, and the next version."""
    demo = Demo(home)
    week, aftermath = demo.config.working_days, demo.config.aftermath_days
    demo.days(0, week)
    demo.version(week, automation.TURN[:-1])
    demo.days(week, aftermath)
    demo.version(week + aftermath, automation.TURN[:1])
    demo.report()
    return demo


def main() -> None:
    """The command line of `flywheel demo`, which starts this module as a process."""
    warnings.simplefilter("ignore")
    output.narrate()
    parser = argparse.ArgumentParser(prog="flywheel demo")
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    home = settings.home()
    try:
        with _alone(home):
            if arguments.fresh:
                clear(home)
            with simulation.recording(home):
                demo = run(home)
    except FlywheelError as error:
        output.fail(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        output.fail("stopped; run it again to go on from here")
        sys.exit(130)
    if demo.done:
        output.say(f"{demo.done} assets made, {demo.skipped} found done")
    else:
        output.say("nothing to recompute: every asset was made before (`flywheel demo --fresh` starts anew)")


if __name__ == "__main__":
    main()
