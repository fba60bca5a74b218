"""The demo turns the wheel through the assets that the UI shows, and once is enough."""

import resource
import shutil

import dagster as dg
import pytest

from flywheel.settings import Home
from flywheel.wheel import simulation
from flywheel_tests.defs.conftest import demo, instance_of
from flywheel_tests.defs.test_definitions import BLOCKING_CHECKS, WHEEL

pytestmark = pytest.mark.slow

# Large enough for any plot of a stage, small enough for an event.
MOST_BYTES = 100_000


def _metadata(instance: dg.DagsterInstance, name: str) -> dict[str, dg.MetadataValue]:
    event = instance.get_latest_materialization_event(dg.AssetKey(name))
    assert event and event.asset_materialization, f"{name} was not materialized"
    return dict(event.asset_materialization.metadata)


def test_every_asset_is_materialized_and_no_run_failed(turned):
    with instance_of(turned.home) as instance:
        assert {key.to_user_string() for key in instance.all_asset_keys()} == set(WHEEL)
        assert all(_metadata(instance, name) for name in WHEEL)
        assert {run.status.name for run in instance.get_runs()} == {"SUCCESS"}
        versions = instance.get_dynamic_partitions("versions")
        assert [key.split("-")[0] for key in versions] == ["v1", "v2"]
        assert instance.get_materialized_partitions(dg.AssetKey("corpus")) == set(versions)
        assert instance.get_materialized_partitions(dg.AssetKey("champion")) == {versions[0]}


def test_tables_tell_their_rows_and_columns(turned):
    with instance_of(turned.home) as instance:
        for name in ("captures", "outcomes", "corpus"):
            found = _metadata(instance, name)
            counts = [
                made.event_log_entry.asset_materialization.metadata["dagster/partition_row_count"].value
                for made in instance.fetch_materializations(dg.AssetKey(name), limit=20).records
            ]
            assert max(counts) > 100
            assert "id" in {column.name for column in found["dagster/column_schema"].value.columns}
        assert _metadata(instance, "captures")["dagster/row_count"].value >= 1200
        reasons = _metadata(instance, "corpus")["reasons"].value
        assert "| kept |" in reasons and "| held out |" in reasons
        assert "| corpus@v1 |" in _metadata(instance, "sft")["made of"].value


@pytest.mark.parametrize(
    "name", ["outcomes", "corpus", "sft", "dpo", "rejection_sampling", "evaluation", "turn_report"]
)
def test_plots_are_shown_in_place(turned, name):
    with instance_of(turned.home) as instance:
        plots = [
            value.value
            for value in _metadata(instance, name).values()
            if isinstance(value, dg.MarkdownMetadataValue) and "data:image/png;base64," in (value.value or "")
        ]
    assert plots and all(len(plot or "") < MOST_BYTES for plot in plots)


def test_checks_ran_with_their_assets_and_nothing_is_wrong(turned):
    """A tiny policy may well not pass the gate: that is a warning, and the wheel turns on."""
    with instance_of(turned.home) as instance:
        keys = [dg.AssetCheckKey.from_user_string(key) for key in sorted(BLOCKING_CHECKS)]
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert {key.to_user_string() for key in records} == BLOCKING_CHECKS
    for key, record in records.items():
        event = record.event.dagster_event
        found = event.asset_check_evaluation_data
        assert found.passed or (key.name == "gate" and found.severity == dg.AssetCheckSeverity.WARN), key


def test_run_again_it_recomputes_nothing_and_says_so(turned):
    with instance_of(turned.home) as instance:
        before = instance.get_runs_count()
        started = _cpu_of_children()
        done = demo(turned.home)
        seconds = _cpu_of_children() - started
        assert done.returncode == 0, done.stderr
        assert "nothing to recompute" in done.stderr
        assert instance.get_runs_count() == before
    assert seconds < 15, "the time of a process that has a core for itself"


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_stage_that_fails_ends_the_demo_with_a_sentence_and_holds_the_schedules_off(turned, tmp_path):
    home = Home(tmp_path / "data")
    home.root.mkdir()
    (home.root / "wheel.toml").write_text("working_days = 1\nepisodes_a_day = 0\n")
    done = demo(home)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    assert "Run the demo again to go on" in " ".join(done.stderr.split())
    assert simulation.under_way(home) and not simulation.under_way(turned.home)
    shutil.rmtree(home.root)
