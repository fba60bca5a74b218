"""The whole wheel, tiny and without Dagster: what holds after one and a half turns."""

import json

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flywheel import artifacts, environments, warehouse
from flywheel.corpus import decisions as stored
from flywheel.corpus import history, store
from flywheel.corpus.manifest import manifest
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.verify import verify
from flywheel.evaluate import report as reports
from flywheel.outcomes.ledger import facts as ledger
from flywheel.release import registry
from flywheel.release.history import read
from flywheel.schema import TRAJECTORIES
from flywheel.wheel import checks, late, stages
from flywheel_tests.wheel import turn
from flywheel_tests.wheel.conftest import Turned, files_of

pytestmark = pytest.mark.slow


def decisions(of: Turned, number: int) -> dict[str, dict]:
    rows = stored.decisions(of.home, manifest(of.home, of.config.corpus, number)).to_pylist()
    return {row["trajectory_id"]: row for row in rows}


def test_every_candidate_is_accounted_for_in_both_versions(turned: Turned):
    for number in (1, 2):
        as_of = turn.version(turned.config, number).as_of
        captured = warehouse.read(turned.home.captures, TRAJECTORIES, turned.config.workspace)
        arrived = captured.filter(pc.field("arrived_at") <= as_of)["id"].to_pylist()
        decided = decisions(turned, number)
        kept = [id for id, row in decided.items() if row["kept"]]
        dropped = [id for id, row in decided.items() if not row["kept"]]
        about = manifest(turned.home, turned.config.corpus, number)
        assert sorted(decided) == sorted(arrived)
        assert (len(kept), len(kept) + len(dropped)) == (about.rows, about.candidates)
        assert sum(about.reasons.values()) == about.candidates
        assert all(row["reason"] for row in decided.values())
        assert store.rows(turned.home, turned.config.corpus, number)["id"].to_pylist() == sorted(kept)


def test_what_was_pending_in_v1_is_resolved_in_v2(turned: Turned):
    v1, v2 = decisions(turned, 1), decisions(turned, 2)
    pending = [id for id, row in v1.items() if row["state"] == "pending"]
    assert len(pending) > 100
    assert {v2[id]["state"] for id in pending} == {"resolved"}


def test_late_outcomes_change_rows_of_v2_and_leave_v1_byte_for_byte(turned: Turned):
    v1, v2 = decisions(turned, 1), decisions(turned, 2)
    changed = [id for id in v1 if v1[id]["state"] == "resolved" and v2[id]["success"] != v1[id]["success"]]
    assert turned.facts["v2 corpus"].counts["changed by late outcomes"] == len(changed) > 0
    assert files_of(turned.home, turned.config, 1) == turned.v1_files
    assert verify(turned.home, turned.config.corpus, 1) == []
    assert manifest(turned.home, turned.config.corpus, 1).digest == turned.facts["v1 corpus"].digest


def test_either_version_made_again_from_the_captures_is_what_it_was(turned: Turned):
    for number in (1, 2):
        again = rebuild(turned.home, turned.config.corpus, number)
        assert again.same and again.restored == ()


def test_the_checks_of_a_version_find_nothing(turned: Turned):
    for number in (1, 2):
        version = turn.version(turned.config, number)
        assert {name: check(turned.home, turned.config, version) for name, check in checks.CORPUS.items()} == {
            name: [] for name in checks.CORPUS
        }


def test_late_changes_count_what_the_decisions_say(turned: Turned):
    v1, v2 = (turn.version(turned.config, number) for number in (1, 2))
    before, now = decisions(turned, 1), decisions(turned, 2)
    verdict = ("success", "reward")
    overturned = [id for id, row in before.items() if row["kept"] and any(row[v] != now[id][v] for v in verdict)]
    found = late.changes(turned.home, turned.config, v1, v2.as_of)
    assert found.rows == len(overturned) > 0
    assert late.changes(turned.home, turned.config, v1, v1.as_of).rows == 0
    assert late.changes(turned.home, turned.config, v2, v2.as_of).rows == 0
    assert v1.as_of < found.latest <= v2.as_of


def test_what_the_champion_did_is_a_candidate_of_v2(turned: Turned):
    champion = registry.champion(turned.home)
    assert champion is not None
    captured = warehouse.read(turned.home.captures, TRAJECTORIES, turned.config.workspace)
    own = captured.filter(pc.field("agent") == "champion")
    assert own.num_rows == turned.facts["v1 champion_episodes"].counts["episodes"] == turned.config.champion_episodes
    assert set(own["agent_version"].to_pylist()) == {champion.digest}
    assert set(own["id"].to_pylist()) <= decisions(turned, 2).keys()
    assert not set(own["id"].to_pylist()) & decisions(turned, 1).keys()


def test_from_the_champion_one_can_walk_to_every_row_and_outcome_and_back(turned: Turned):
    home, config = turned.home, turned.config
    champion = registry.champion(home)
    assert champion is not None and champion.report == turn.version(config, 1).key
    lineage = artifacts.read_json(home.policies / champion.policy_id / "lineage.json")
    [pairs] = lineage["pairs"]
    assert pairs["path"] == str(home.pairs / champion.report / "pairs.parquet")
    base = artifacts.read_json(home.policies / lineage["base"]["policy"] / "lineage.json")
    data = base["data"]
    assert (data["corpus"], data["version"]) == (config.corpus, 1)
    assert (
        data["digest"] == manifest(home, config.corpus, 1).digest == reports.load(home, champion.report).corpus_digest
    )
    rows = store.rows(home, data["corpus"], data["version"], "train")
    assert rows.num_rows == base["examples"]
    told = {row["id"]: row for row in ledger(home, config.workspace).to_pylist()}
    for row in rows.select(["id", "source"]).to_pylist()[::10]:
        story = history.why(home, config.corpus, row["id"])
        assert story["source"] == row["source"] and row["source"].startswith("week/2026-11-0")
        counted = [fact for fact in story["outcomes"] if f"{config.corpus}@v1" in fact["counted_in"]]
        assert counted and all(told[fact["id"]]["trajectory_id"] == row["id"] for fact in counted)
        assert [d["version"] for d in story["decisions"]] == [1, 2]


def test_trees_are_of_training_templates_and_every_branch_point_has_a_reason(turned: Turned):
    key = turn.version(turned.config, 1).key
    groups = {row["task_group"] for row in pq.read_table(turned.home.trees / key / "trees.parquet").to_pylist()}
    heldout = {task.group for task in environments.get("files").tasks("heldout", 200, 1)}
    assert groups and not groups & heldout
    pairs = turned.facts["v1 pairs"]
    assert sum(row["branch points"] for row in pairs.tables["reasons"]) == pairs.counts["branch points"]
    assert pairs.counts["pairs"] == pq.read_table(turned.home.pairs / key / "pairs.parquet").num_rows > 0


def test_the_gate_refused_a_policy_that_is_not_better_and_a_person_promoted_it(turned: Turned):
    keep, promote = read(turned.home)
    assert (keep.kind, promote.kind) == ("keep", "promote")
    assert keep.policy_id == promote.policy_id and keep.report == promote.report
    assert any(not reason.passed for reason in keep.reasons)


def test_the_report_has_each_table(turned: Turned):
    report = reports.load(turned.home, "latest")
    assert list(report.tables) == ["Gate", "Rollout trees", "Branch points by reason", "Corpus versions", "Cycle time"]
    assert all(report.tables.values())
    assert {r.policy for r in report.success} >= {"dpo", "sft", "rejection sampling", "empty", "captured agents"}
    versions = {row[""]: row for row in report.tables["Corpus versions"]}
    for number in (1, 2):
        about = manifest(turned.home, turned.config.corpus, number)
        column = f"v{number}"
        assert (versions["candidates"][column], versions["in"][column]) == (about.candidates, about.rows)
        assert {reason: versions[reason][column] for reason in about.reasons} == about.reasons
    assert versions["changed by late outcomes"] == {
        "": "changed by late outcomes",
        "v1": 0,
        "v2": turned.facts["v2 corpus"].counts["changed by late outcomes"],
    }
    cycle = report.tables["Cycle time"]
    assert [row["stage"] for row in cycle] == ["agents", "captures", "outcomes", *stages.TURN]
    assert sum(row["bottleneck"] for row in cycle) == 1
    page = (turned.home.reports / report.id / "report.md").read_text()
    assert all(f"## {title}" in page for title in report.tables)
    assert all((turned.home.reports / report.id / name).is_file() for name in report.plots.values())


def test_a_second_run_finds_everything_done(copied: Turned):
    written = {path: path.stat().st_mtime_ns for path in copied.home.root.rglob("*") if path.is_file()}
    again = turn.first(copied.home) | turn.half(copied.home)
    assert turn.digests(again) == turn.digests(copied.facts)
    assert {stage: of.counts for stage, of in again.items()} == {stage: of.counts for stage, of in copied.facts.items()}
    for folder in ("captures", "outcomes", "policies", "evaluations", "registry", "cycle", "trees"):
        for path in (copied.home.root / folder).rglob("*.*"):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith("successes.parquet"):
                assert path.stat().st_mtime_ns == written[path], path


def test_facts_are_plain_values(turned: Turned):
    for of in turned.facts.values():
        assert json.loads(msgspec.json.encode(msgspec.structs.replace(of, plots={})))["counts"] == of.counts
        assert all(path.is_file() for path in of.plots.values())
