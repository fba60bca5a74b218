"""Under a real daemon: what was missed is caught up with, late outcomes make a version, and old versions stand.

The tests share one served wheel and are told in the order in which they happen to it.
"""

import subprocess
from datetime import UTC, datetime

import dagster as dg
import pytest

from flywheel.capture.feedback import ledger
from flywheel.corpus.manifest import manifest, versions
from flywheel.corpus.store import rows
from flywheel.environments import get
from flywheel.wheel.versions import parse
from flywheel_tests.defs.conftest import ROOT, Served, environment, eventually, instance_of

pytestmark = pytest.mark.slow

BACKFILL = """
mutation($first: String!, $last: String!) {
  launchPartitionBackfill(backfillParams: {
    partitionsByAssets: [{assetKey: {path: ["corpus"]}, partitions: {range: {start: $first, end: $last}}}]
  }) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def _runs(served: Served, job: str | None, **tags: str) -> list[dg.DagsterRun]:
    with instance_of(served.home) as instance:
        return list(instance.get_runs(dg.RunsFilter(job_name=job, tags=tags)))


def _made(served: Served, version: str, run_id: str | None = None) -> list[str]:
    """The data versions with which a version of the corpus was materialized, the newest first."""
    with instance_of(served.home) as instance:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey("corpus"), asset_partitions=[version]), limit=50
        ).records
        events = [record.event_log_entry for record in records if run_id in (None, record.run_id)]
        return [(e.asset_materialization.tags or {})["dagster/data_version"] for e in events if e.asset_materialization]


def _keys(served: Served) -> list[str]:
    with instance_of(served.home) as instance:
        return sorted(instance.get_dynamic_partitions("versions"))


def test_nightly_catches_up_with_the_midnight_it_missed(served):
    [run] = eventually(lambda: _runs(served, "turn", **{"dagster/schedule_name": "nightly"}), "the nightly turn")
    version = parse(run.tags["dagster/partition"])
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert version.number == 3 and version.as_of <= midnight
    eventually(lambda: _made(served, version.key), "the corpus of the nightly turn")
    before, now = (manifest(served.home, "corpus", number) for number in (2, 3))
    assert now.candidates == before.candidates + 1, "the episode of two days ago is in it"
    served.terminate(run.run_id)


def test_journals_are_settled_by_a_run_of_their_day(served):
    [run] = eventually(lambda: _runs(served, "day", **{"dagster/sensor_name": "late_outcomes"}), "a settling run")
    assert run.tags["dagster/run_key"].startswith("settle-")
    with instance_of(served.home) as instance:
        eventually(lambda: instance.get_run_by_id(run.run_id).is_finished, "the end of the settling run")
        assert instance.get_run_by_id(run.run_id).is_success
    assert not list((served.home.journals / "production").glob("*.jsonl"))


def test_a_late_outcome_makes_one_version_and_leaves_the_old_ones(served):
    newest = versions(served.home, "corpus")[-1]
    old = {number: manifest(served.home, "corpus", number) for number in versions(served.home, "corpus")}
    row = rows(served.home, "corpus", newest)["id"][0].as_py()
    ledger.tell(served.home, "production", row, get("desk").late_signal, 0.0, source="people")

    [run] = eventually(
        lambda: _runs(served, "turn", **{"dagster/sensor_name": "late_outcomes"}), "a turn of the sensor"
    )
    version = parse(run.tags["dagster/partition"])
    assert version.number == newest + 1
    assert run.tags["flywheel/reason"] == f"1 verdicts on v{newest} changed"
    eventually(lambda: _made(served, version.key), "the corpus of the sensor's turn")
    served.terminate(run.run_id)

    assert row not in rows(served.home, "corpus", version.number)["id"].to_pylist()
    assert {number: manifest(served.home, "corpus", number) for number in old} == old

    # The next look finds nothing new: the same outcomes make no second version.
    looks = len(_ticks(served))
    eventually(lambda: len(_ticks(served)) > looks + 1, "another look of the sensor")
    assert _keys(served)[-1] == version.key
    assert {tick.status.name for tick in _ticks(served)} <= {"SKIPPED", "SUCCESS", "STARTED"}


def _ticks(served: Served):
    with instance_of(served.home) as instance:
        [state] = [s for s in instance.all_instigator_state() if s.instigator_name == "late_outcomes"]
        return instance.get_ticks(state.instigator_origin_id, state.selector_id)


def test_a_range_of_versions_rebuilt_by_one_backfill_is_the_same(served):
    first, last = _keys(served)[:2]
    before = {version: _made(served, version) for version in (first, last)}
    launched = served.ask(BACKFILL, first=first, last=last)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def remade() -> dict[str, dg.DagsterRun]:
        runs = _runs(served, None, **{"dagster/backfill": launched["backfillId"]})
        return {run.tags["dagster/partition"]: run for run in runs if run.is_success}

    eventually(lambda: remade().keys() == before.keys(), "the backfill's runs of both versions")
    for number, version in enumerate(before, start=1):
        [again] = _made(served, version, remade()[version].run_id)
        assert {again, *before[version]} == {manifest(served.home, "corpus", number).digest}


def test_a_version_rebuilt_from_the_command_line_is_the_same(served):
    version = _keys(served)[0]
    command = ["dagster", "asset", "materialize", "-m", "flywheel.definitions", "--select", "corpus"]
    done = subprocess.run(
        [*command, "--partition", version],
        cwd=ROOT,
        env=environment(served.home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(_made(served, version)) >= 2
    assert set(_made(served, version)) == {manifest(served.home, "corpus", 1).digest}


def test_nothing_failed(served):
    """Runs were cancelled here to save time; none failed, and the log of the daemon tells of no error."""
    assert {run.status.name for run in _runs(served, None)} <= {"SUCCESS", "CANCELED"}
    errors = [line for line in served.log.read_text().splitlines() if "dagster.daemon" in line and "ERROR" in line]
    assert not errors
