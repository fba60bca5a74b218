"""A second whole turn on v2, after v1's champion: what differs when there is somebody to beat, and the way back."""

import pytest

from flywheel import artifacts
from flywheel.evaluate import report as reports
from flywheel.release import registry
from flywheel.release.history import read
from flywheel.wheel import cycle, learning, stages, standing, summary
from flywheel_tests.wheel import turn
from flywheel_tests.wheel.conftest import Turned, files_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def again(turned: Turned, tmp_path_factory) -> Turned:
    """A copy of the turned wheel in which v2 has gone through every stage, and was promoted by a person."""
    import shutil

    home = type(turned.home)(tmp_path_factory.mktemp("again") / "data")
    shutil.copytree(turned.home.root, home.root)
    v2 = turn.version(turned.config, 2)
    facts = {f"v2 {stage}": stages.run(stage, home, turned.config, v2) for stage in stages.TURN}
    facts["turn_report"] = summary.turn_report(home, turned.config)
    return turned._replace(home=home, facts=turned.facts | facts)


def test_trees_are_sampled_from_the_champion_and_the_candidate_starts_from_it(again: Turned):
    home, config, v2 = again.home, again.config, turn.version(again.config, 2)
    champion = standing.incumbent(home, v2)
    assert champion is not None and champion.report == turn.version(config, 1).key
    assert learning.actor_of(home, config, v2).id == champion.policy_id
    run = learning.dpo_run(home, config, v2)
    assert run.base == champion.policy_id
    assert run.learning_rate == config.later_dpo_learning_rate < config.dpo_learning_rate
    assert learning.rejection_run(home, config, v2).base == champion.policy_id


def test_pairs_of_both_turns_are_pooled(again: Turned):
    home, config = again.home, again.config
    keys = [turn.version(config, number).key for number in (1, 2)]
    assert learning.dpo_run(home, config, turn.version(config, 2)).pairs == tuple(
        str(home.pairs / key / "pairs.parquet") for key in keys
    )
    assert learning.dpo_run(home, config, turn.version(config, 1)).pairs == (
        str(home.pairs / keys[0] / "pairs.parquet"),
    )
    policy = again.facts["v2 dpo"].counts["policy"]
    lineage = artifacts.read_json(home.policies / str(policy) / "lineage.json")
    assert [part["path"] for part in lineage["pairs"]] == [str(home.pairs / key / "pairs.parquet") for key in keys]
    assert lineage["base"]["policy"] == again.facts["v1 dpo"].counts["policy"]


def test_trees_of_the_second_turn_are_of_other_tasks(again: Turned):
    assert again.facts["v2 trees"].digest != again.facts["v1 trees"].digest
    assert again.facts["v2 sft"].digest != again.facts["v1 sft"].digest


def test_the_candidate_is_judged_against_the_champion(again: Turned):
    report = reports.load(again.home, turn.version(again.config, 2).key)
    assert report.champion == "champion"
    assert report.entrant("champion").policy_id == again.facts["v1 dpo"].counts["policy"]
    assert report.corpus_digest == again.facts["v2 corpus"].digest
    assert report.tables["Gate"][0]["against"] == "champion"
    rules = {row["rule"] for row in again.facts["v2 champion"].tables["rules"]}
    assert rules == {"leakage", "enough tasks", "better than the champion", "not worse as it acts", "guard slice files"}


def test_a_candidate_that_is_not_better_leaves_the_champion_which_acts_again(again: Turned):
    first = again.facts["v1 dpo"].counts["policy"]
    assert again.facts["v2 champion"].counts == {"decision": "keep", "champion": first}
    assert again.facts["v2 champion_episodes"].counts["champion"] == first
    assert [event.kind for event in read(again.home)] == ["keep", "promote", "keep"]


def test_the_turn_report_is_of_the_second_turn_alone(again: Turned):
    v2 = turn.version(again.config, 2)
    assert again.facts["turn_report"].counts == {"report": v2.key}
    assert summary.turn(again.home, again.config, v2) == {v2.key, "2026-11-06", "2026-11-07", "2026-11-08"}
    report = reports.load(again.home, "latest")
    assert report.id == v2.key
    assert report.tables["Cycle time"] == cycle.table(again.home, summary.turn(again.home, again.config, v2))
    assert list(report.tables["Corpus versions"][0]) == ["", "v1", "v2"]


def test_v1_is_as_it_was(again: Turned):
    assert files_of(again.home, again.config, 1) == again.v1_files
    v1 = turn.version(again.config, 1)
    assert again.facts["v1 dpo"].digest == stages.run("dpo", again.home, again.config, v1).digest
    assert again.facts["v1 champion_episodes"] == stages.run("champion_episodes", again.home, again.config, v1)


def test_a_promotion_is_taken_back_and_the_wheel_knows_who_serves(again: Turned):
    home, config = again.home, again.config
    v2, v3 = (turn.version(config, number) for number in (2, 3))
    first, second = (again.facts[f"v{number} dpo"].counts["policy"] for number in (1, 2))
    turn.promote(home, v2, champion_id=str(first))
    promoted = standing.incumbent(home, v3)
    assert promoted is not None and promoted.policy_id == second
    registry.rollback(home)
    back = standing.incumbent(home, v3)
    assert back is not None and back.policy_id == first
    # What was done on v2 is not done anew by another.
    assert stages.run("champion_episodes", home, config, v2) == again.facts["v2 champion_episodes"]
    before = standing.incumbent(home, v2)
    assert before is not None and before.policy_id == first
