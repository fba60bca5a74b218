"""What stops a turn, and how it goes on: a cancelled run, a killed one, and a version that is held.

The tests share one served wheel and are told in the order in which they happen to it.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from flywheel import artifacts
from flywheel.capture.feedback import ledger
from flywheel.corpus.defence.findings import FILE
from flywheel.corpus.defence.graduation import graduate
from flywheel.corpus.manifest import folder, manifest, versions
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.store import rows
from flywheel.corpus.verify import verify
from flywheel.curate import derived, prepared
from flywheel.defs.automation import UNFINISHED
from flywheel.environments import get
from flywheel.settings import Home
from flywheel.wheel.versions import Version
from flywheel_tests.defs.conftest import TINY, Served, Turned, eventually, instance_of, serving

pytestmark = pytest.mark.slow

LAUNCH = """
mutation($version: String!, $assets: [AssetKeyInput!]!) {
  launchPipelineExecution(executionParams: {
    selector: {
      repositoryLocationName: "flywheel"
      repositoryName: "__repository__"
      pipelineName: "turn"
      assetSelection: $assets
    }
    executionMetadata: {tags: [{key: "dagster/partition", value: $version}]}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
# Any success that turned out to be none holds the version that says so.
STRICT = 'overturned = { at = 0.0001, then = "hold" }\n'


@pytest.fixture(scope="module")
def served(turned: Turned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The UI over a copy of the tiny wheel, on which nothing but these tests asks for versions."""
    home = Home(tmp_path_factory.mktemp("stopped") / "data")
    shutil.copytree(turned.home.root, home.root)
    (home.root / "wheel.toml").write_text(TINY.replace("late_share = 0.0", "late_share = 1.0"))
    with serving(home) as found:
        yield found


@pytest.fixture(scope="module")
def third(served: Served) -> str:
    """The key of a version that nobody has made yet: since v2, a success has turned out to be none."""
    row = rows(served.home, "corpus", 2)["id"][0].as_py()
    told = ledger.tell(served.home, "production", row, get("desk").late_signal, 0.0, source="people")
    version = Version(3, told.arrived_at.replace(microsecond=0) + timedelta(seconds=1))
    with instance_of(served.home) as instance:
        instance.add_dynamic_partitions("versions", [version.key])
    return version.key


def _launch(served: Served, version: str, *assets: str) -> str:
    """Ask for assets of a version, as a person does in the UI; the run's id."""
    launched = served.ask(LAUNCH, version=version, assets=[{"path": [name]} for name in assets])
    answer = launched["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def _ended(served: Served, run_id: str) -> str:
    """How a run ended, once it has."""
    with instance_of(served.home) as instance:
        return eventually(lambda: (run := instance.get_run_by_id(run_id)).is_finished and run.status.name, "its end")


def _made(served: Served, asset: str, version: str) -> bool:
    with instance_of(served.home) as instance:
        return version in instance.get_materialized_partitions(dg.AssetKey(asset))


def _is_held(lock: Path) -> bool:
    """Whether a process holds a lock."""
    with lock.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _locks(home: Home) -> list[Path]:
    """What a run holds while it is at the corpus: the stage, and the corpus for writing."""
    return [home.root / ".corpus.lock", folder(home, "corpus") / ".lock"]


@contextmanager
def _half_way(served: Served, version: str) -> Iterator[str]:
    """A run that is in the middle of making a version and gets no further: we hold a table that it has to write."""
    table = derived.folder(served.home, "production", prepared.ROWS)
    with artifacts.held(table.parent / f".{table.stem}.lock"):
        run_id = _launch(served, version, "corpus")
        eventually(lambda: all(map(_is_held, _locks(served.home))), "a run in the middle of its corpus")
        time.sleep(2)
        yield run_id


def _nothing_is_left(served: Served, version: str) -> None:
    """No half version, no lock that is held, no place in a pool that is taken."""
    assert versions(served.home, "corpus") == [1, 2]
    assert not _made(served, "corpus", version)
    assert not verify(served.home, "corpus", 2)
    assert not any(map(_is_held, _locks(served.home)))
    with instance_of(served.home) as instance:
        pools = instance.event_log_storage
        assert not any(pools.get_concurrency_info(key).active_slot_count for key in pools.get_concurrency_keys())
        assert not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))


def test_a_run_that_is_cancelled_half_way_leaves_nothing(served, third):
    with _half_way(served, third) as run_id:
        served.terminate(run_id)
    assert _ended(served, run_id) == "CANCELED"
    _nothing_is_left(served, third)


def test_a_run_that_is_killed_half_way_leaves_nothing(served, third):
    with _half_way(served, third) as run_id:
        os.kill(_process(served, run_id), signal.SIGKILL)
        assert _ended(served, run_id) == "FAILURE"
    _nothing_is_left(served, third)


def _process(served: Served, run_id: str) -> int:
    """The process in which a run's steps are carried out, as the run's own log tells it."""
    with instance_of(served.home) as instance:
        events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    found = [e.engine_event_data.metadata for e in events if e.event_type == dg.DagsterEventType.ENGINE_EVENT]
    [pid] = {int(metadata["pid"].value) for metadata in found if "pid" in metadata}
    return pid


def test_the_next_run_makes_the_version_whole(served, third):
    assert _ended(served, _launch(served, third, "corpus")) == "SUCCESS"
    made = manifest(served.home, "corpus", 3)
    assert rebuild(served.home, "corpus", 3).digest == made.digest
    assert not verify(served.home, "corpus", 3)


def test_a_held_version_stops_the_turn_and_says_why(served, third):
    (served.home.root / FILE).write_text(STRICT)
    run_id = _launch(served, third, "corpus", "sft")
    assert _ended(served, run_id) == "FAILURE"
    assert not _made(served, "sft", third)
    with instance_of(served.home) as instance:
        key = dg.AssetCheckKey(dg.AssetKey("corpus"), "defence")
        [record] = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
    found = record.event.dagster_event.asset_check_evaluation_data
    assert record.run_id == run_id and not found.passed and found.blocking
    assert found.metadata["failures"].value == 1
    assert "overturned" in found.metadata["rows"].value


def test_a_person_lets_it_graduate_and_the_turn_goes_on(served, third):
    of = manifest(served.home, "corpus", 3)
    graduate(served.home, of, by="Ada", because="The ticket was really reopened.", at=datetime.now(UTC))
    assert _ended(served, _launch(served, third, "corpus", "sft")) == "SUCCESS"
    assert _made(served, "sft", third)
