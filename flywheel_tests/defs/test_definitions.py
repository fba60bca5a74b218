"""What Dagster loads: the wheel as a graph, what turns it, and what stops it."""

import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import flywheel

ROOT = Path(flywheel.__file__).parents[1]

# Each asset under the group it stands in, with what it is made from.
WHEEL = {
    "agents": ("capture", set()),
    "captures": ("capture", {"agents"}),
    "outcomes": ("outcomes", {"captures"}),
    "corpus": ("corpus", {"captures", "outcomes"}),
    "sft": ("train", {"corpus"}),
    "trees": ("rollout", {"sft"}),
    "pairs": ("preferences", {"trees"}),
    "dpo": ("train", {"sft", "pairs"}),
    "rejection_sampling": ("train", {"sft", "trees"}),
    "evaluation": ("evaluate", {"sft", "dpo", "rejection_sampling"}),
    "champion": ("release", {"evaluation"}),
    "champion_episodes": ("release", {"champion"}),
    "turn_report": ("release", {"champion_episodes", "corpus"}),
}
BLOCKING_CHECKS = {
    "captures:captures_schema",
    "corpus:schema",
    "corpus:defence",
    "corpus:leakage",
    "corpus:reproducible",
    "evaluation:gate",
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    """Loading warns of nothing: under pytest a warning is an error."""
    return dg.load_from_defs_folder(path_within_project=Path(flywheel.__file__).parent)


def test_the_graph_reads_as_the_wheel(definitions):
    graph = definitions.resolve_asset_graph()
    found = {
        node.key.to_user_string(): (node.group_name, {key.to_user_string() for key in node.parent_keys})
        for node in graph.asset_nodes
    }
    assert found == WHEEL


@pytest.mark.parametrize("name", WHEEL)
def test_each_asset_says_what_it_is_and_whose(definitions, name):
    node = definitions.resolve_asset_graph().get(dg.AssetKey(name))
    assert node.description and node.kinds and node.owners


def test_days_are_partitions_of_what_arrives_and_versions_of_what_is_made_of_it(definitions):
    graph = definitions.resolve_asset_graph()
    kinds = {name: type(graph.get(dg.AssetKey(name)).partitions_def).__name__ for name in WHEEL}
    days = {name for name, kind in kinds.items() if kind == "DailyPartitionsDefinition"}
    versions = {name for name, kind in kinds.items() if kind == "DynamicPartitionsDefinition"}
    assert days == {"agents", "captures", "outcomes"}
    assert versions == set(WHEEL) - days - {"turn_report"}


def test_checks_stop_what_comes_after_them(definitions):
    repository = definitions.get_repository_def()
    specs = [spec for node in repository.asset_checks_defs_by_key.values() for spec in node.check_specs]
    specs += [spec for node in repository.assets_defs_by_key.values() for spec in node.check_specs]
    assert {spec.key.to_user_string() for spec in specs if spec.blocking} == BLOCKING_CHECKS
    assert all(spec.description for spec in specs)


def test_it_turns_by_itself(definitions):
    repository = definitions.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"day", "turn"}
    schedules = {s.name: (s.cron_schedule, s.job_name, s.default_status.name) for s in repository.schedule_defs}
    assert schedules == {
        "close_day": ("5 0 * * *", "day", "RUNNING"),
        "nightly": ("30 0 * * *", "turn", "RUNNING"),
    }
    sensors = {s.name: ({t.job_name for t in s.targets}, s.default_status.name) for s in repository.sensor_defs}
    assert sensors == {"late_outcomes": ({"day", "turn"}, "RUNNING")}


@pytest.mark.slow
def test_a_fresh_process_loads_them_without_a_warning(tmp_path):
    command = [Path(sys.executable).with_name("dagster"), "definitions", "validate", "-w", "workspace.yaml"]
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    environment = {"FLYWHEEL_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARNING" not in said and "ERROR" not in said, said
