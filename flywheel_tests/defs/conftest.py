"""A tiny wheel, turned once for all tests of this folder, and Dagster serving a copy of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest

from flywheel.capture.recorders.recorder import Recorder
from flywheel.settings import Home

ROOT = Path(__file__).resolve().parents[2]
# Two weeks back, so that what the wheel calls today lies well after its simulated days.
WEEK_START = (datetime.now(UTC) - timedelta(days=14)).date()
TINY = f"""
environments = ["desk"]
week_start = {WEEK_START}
working_days = 3
aftermath_days = 2
episodes_a_day = 400
quiet_seconds = 2
late_share = 0.0
sft_steps = 70
tree_tasks = 40
tree_nodes = 16
rejection_steps = 5
heldout_tasks = 20
temperatures = [0.0, 1.0]
champion_episodes = 20
"""


class Turned(NamedTuple):
    """A data folder on which the demo ended well, and what it said."""

    home: Home
    said: str


def environment(home: Home) -> dict[str, str]:
    """The environment of a process that works on a data folder, with this interpreter's commands first."""
    return os.environ | {
        "FLYWHEEL_HOME": str(home.root),
        "DAGSTER_HOME": str(home.dagster),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def demo(home: Home) -> subprocess.CompletedProcess[str]:
    """Run the demo on a data folder."""
    command = [sys.executable, "-m", "flywheel.defs.demo"]
    return subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Turned:
    """One and a half turns of a tiny wheel. Tests only read it; those that change something take a copy."""
    home = Home(tmp_path_factory.mktemp("wheel") / "data")
    home.root.mkdir()
    (home.root / "wheel.toml").write_text(TINY)
    done = demo(home)
    assert done.returncode == 0, done.stderr
    return Turned(home, done.stdout + done.stderr)


@contextmanager
def instance_of(home: Home) -> Iterator[dg.DagsterInstance]:
    """What Dagster knows of a data folder."""
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        yield instance


def eventually(ask: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The first answer that is not empty; an error when there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


class Served(NamedTuple):
    """`flywheel ui` on a copy of the tiny wheel: its data folder and its address."""

    home: Home
    url: str
    log: Path

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=240) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.read().decode()}\n{self.log.read_text()[-4000:]}") from error
        assert "errors" not in answer, answer
        return answer["data"]

    def terminate(self, run_id: str) -> None:
        """Cancel a run, and wait until it has ended."""
        self.ask("mutation($run: String!) { terminateRun(runId: $run) { __typename } }", run=run_id)
        with instance_of(self.home) as instance:
            eventually(lambda: instance.get_run_by_id(run_id).is_finished, f"the end of run {run_id}")


@pytest.fixture(scope="session")
def served(turned: Turned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The UI with its daemon, as `flywheel ui` starts them, with last night's tick missed."""
    home = Home(tmp_path_factory.mktemp("served") / "data")
    shutil.copytree(turned.home.root, home.root)
    record_an_episode(home, datetime.now(UTC) - timedelta(days=2))
    miss_a_tick(home, "nightly", "30 0 * * *")
    with serving(home) as found:
        yield found


@contextmanager
def serving(home: Home) -> Iterator[Served]:
    """`flywheel ui` over a data folder; it ends with the block, and what it started with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Served(home, f"http://127.0.0.1:{port}", home.root.parent / "dagster.log")
    command = [Path(sys.executable).with_name("flywheel"), "ui", "--port", str(port)]
    with served.log.open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=home.root.parent,
            env=environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: process.poll() is not None or _is_up(served.url), "an answer of the UI")
        assert process.poll() is None, served.log.read_text()
        yield served
    finally:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        _end_processes_of(home)


def record_an_episode(home: Home, at: datetime) -> None:
    """An episode as an agent records it, still in its journal."""
    recorder = Recorder(home, "production", agent="night-owl", clock=lambda: at)
    with recorder.trajectory(task_id="ticket-1", task_group="tickets", task_type="desk") as episode:
        episode.step(role="user", content="Is anybody there?")
        episode.step(role="assistant", content="Always.")
        episode.outcome("checker", 1.0, source="environment")
    recorder.close()


def miss_a_tick(home: Home, schedule: str, cron: str) -> None:
    """Let Dagster believe that a schedule has been on since a day ago, while no daemon ran."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(module_name="flywheel.definitions"), location_name="flywheel"
    )
    since = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    with instance_of(home) as instance:
        instance.add_instigator_state(
            InstigatorState(
                RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), schedule),
                InstigatorType.SCHEDULE,
                InstigatorStatus.DECLARED_IN_CODE,
                ScheduleInstigatorData(cron, since),
            )
        )


def _is_up(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/server_info", timeout=5):
        return True
    return False


def _end_processes_of(home: Home) -> None:
    """End what still works on a test's data folder: runs have sessions of their own."""
    mark = f"FLYWHEEL_HOME={home.root}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
