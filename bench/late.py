"""Pictures of a late outcome's whole way through the UI, on a tiny wheel of its own.

    python -m bench.late docs/images

A wheel turns once in a temporary folder. Then tickets of training rows are reopened, as a person would tell it: too few
for a version at first, then enough. Writes late-arrival.png (the day's outcomes, with their lag), late-waiting.png and
late-sensor.png (what the sensor said), late-turn.png (the run that it asked for), late-diff.png (the rows that changed,
and the ledger rows that did it) and late-policy.png (the policy trained on the new version).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from playwright.sync_api import Page

from bench.screenshots import PATIENCE, browser, served
from flywheel.corpus.store import rows
from flywheel.environments import get
from flywheel.settings import Home

# Two weeks back, so that all that it simulates has come to its end.
TINY = f"""
environments = ["desk"]
week_start = {(datetime.now(UTC) - timedelta(days=14)).date()}
working_days = 3
aftermath_days = 4
episodes_a_day = 300
quiet_seconds = 5
sft_steps = 70
tree_tasks = 40
tree_nodes = 16
rejection_steps = 5
heldout_tasks = 20
temperatures = [0.0, 1.0]
champion_episodes = 20
"""
SENSOR = "/locations/__repository__@flywheel/sensors/late_outcomes"
FEW, ENOUGH = 2, 6


def wheel(root: Path) -> Home:
    """A data folder in which a tiny wheel has turned once, and made v2."""
    home = Home(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "wheel.toml").write_text(TINY)
    subprocess.run([sys.executable, "-m", "flywheel.defs.demo"], check=True)
    return home


def reopen(home: Home, first: int, last: int) -> None:
    """Tell, as a person would, that the tickets of some training rows of v2 were reopened."""
    flywheel = Path(sys.executable).with_name("flywheel")
    for row in rows(home, "corpus", 2, "train")["id"].to_pylist()[first:last]:
        told = ["outcome", row, get("desk").late_signal, "0", "--workspace", "production"]
        subprocess.run([flywheel, *told, "--comment", "customer came back"], check=True, stdout=subprocess.DEVNULL)


def eventually(home: Home, ask: Callable[[dg.DagsterInstance], Any]) -> Any:
    """The first answer of the wheel's Dagster that is not empty."""
    until = time.monotonic() + 3 * PATIENCE
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        while time.monotonic() < until:
            if answer := ask(instance):
                return answer
            time.sleep(2)
    raise SystemExit("the late outcomes made no version in time")


def said(instance: dg.DagsterInstance, what: str) -> bool:
    """Whether the sensor has given such a reason."""
    states = [state for state in instance.all_instigator_state() if state.instigator_name == "late_outcomes"]
    return any(
        what in (tick.tick_data.skip_reason or "")
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
    )


def turned(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The sensor's turn, once it has ended well."""
    asked = dg.RunsFilter(job_name="turn", tags={"dagster/sensor_name": "late_outcomes"})
    for run in instance.get_runs(asked):
        if run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            raise SystemExit(f"the turn {run.run_id} ended as {run.status.name}")
        if run.is_success:
            return run
    return None


def tick(page: Page, url: str, result: str, target: Path, height: int) -> None:
    """What the sensor said at its latest tick with a result: why it skipped, or the runs that it asked for."""
    page.goto(f"{url}{SENSOR}")
    shown = page.locator("table").last.get_by_text(result)
    shown.last.wait_for(timeout=PATIENCE * 1000)
    # The column of results is the last of two that say so.
    shown.nth(1).click()
    dialog(page, target, height)


def day(page: Page, url: str, target: Path) -> None:
    """Today's outcomes: how many, of which episodes, and how late."""
    page.goto(f"{url}/assets/outcomes?view=partitions&partition={datetime.now(UTC).date()}")
    settled(page, "arrival lag", target)


def version(page: Page, url: str, key: str, target: Path) -> None:
    """The rows in which a version differs from the one before it, with the outcomes that did it."""
    page.goto(f"{url}/assets/corpus?view=partitions&partition={key}")
    row = page.locator("tr").filter(has=page.get_by_text("rows that changed", exact=True))
    row.get_by_text("[Show Markdown]").click(timeout=PATIENCE * 1000)
    dialog(page, target, 900)


def turn(page: Page, url: str, run: str, target: Path) -> None:
    """The run of a turn, stage by stage."""
    page.goto(f"{url}/runs/{run}")
    page.get_by_text("champion_episodes").first.wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(4000)
    page.screenshot(path=target, clip={"x": 0, "y": 0, "width": 1700, "height": 500})


def policy(page: Page, url: str, key: str, target: Path) -> None:
    """The policy that imitates a version, and what it was made of."""
    page.goto(f"{url}/assets/sft?view=partitions&partition={key}")
    settled(page, "policy", target)


def lineage(page: Page, url: str, target: Path) -> None:
    """What the policy comes from, each asset with its latest event."""
    page.goto(f"{url}/assets/sft?view=lineage&lineageScope=upstream&lineageDepth=2")
    settled(page, "captures", target)


def settled(page: Page, text: str, target: Path) -> None:
    """A picture of a page that shows a text, once it has come to rest."""
    page.get_by_text(text).first.wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(3000)
    page.screenshot(path=target)


def dialog(page: Page, target: Path, height: int) -> None:
    """A picture of the dialog that is open, wide enough for what its columns say, down to where it is empty."""
    page.add_style_tag(content=".bp5-dialog {width: 94vw !important; max-width: none !important}")
    opened = page.locator(".bp5-dialog")
    opened.wait_for(timeout=PATIENCE * 1000)
    page.wait_for_timeout(3000)
    box = opened.bounding_box()
    assert box
    clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": min(box["height"], height)}
    page.screenshot(path=target, clip=clip)


def main() -> None:
    """Turn a wheel, let outcomes come late, and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of a late outcome's whole way through the UI.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        os.environ["FLYWHEEL_HOME"] = root
        way(wheel(Path(root)), folder)


def way(home: Home, folder: Path) -> None:
    """The way of late outcomes through a wheel that has made v2, in pictures."""
    with served() as url:
        reopen(home, 0, FEW)
        eventually(home, lambda instance: said(instance, "verdicts have changed; waiting until"))
        with browser(1000, 900) as context:
            tick(context.pages[0], url, "0 runs requested", folder / "late-waiting.png", 200)
        reopen(home, FEW, FEW + ENOUGH)
        run = eventually(home, turned)
        pictures(url, run, folder)


def pictures(url: str, run: dg.DagsterRun, folder: Path) -> None:
    """What the UI shows once the version that late outcomes made has been turned."""
    key = run.tags["dagster/partition"]
    with browser(1500, 1200) as context:
        day(context.pages[0], url, folder / "late-arrival.png")
    with browser(1250, 760) as context:
        [page] = context.pages
        version(page, url, key, folder / "late-diff.png")
        policy(page, url, key, folder / "late-policy.png")
    with browser(1600, 760) as context:
        [page] = context.pages
        tick(page, url, "2 runs requested", folder / "late-sensor.png", 640)
        lineage(page, url, folder / "late-lineage.png")
    with browser(1700, 1300) as context:
        [page] = context.pages
        turn(page, url, run.run_id, folder / "late-turn.png")


if __name__ == "__main__":
    main()
