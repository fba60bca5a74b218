"""Stages by name, in the order of a turn."""

import fcntl
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.wheel import stages
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import STAGES
from flywheel_tests.wheel import turn

CONFIG = WheelConfig()
V1 = turn.version(CONFIG, 1)


def test_the_cycle_table_knows_every_stage_in_the_same_order():
    assert ("agents", "captures", "outcomes", *stages.TURN) == STAGES


def test_an_unknown_stage_is_told_which_there_are(home):
    with pytest.raises(FlywheelError, match=r"there is no stage 'dpoo'; there are: corpus, sft, trees, pairs"):
        stages.run("dpoo", home, CONFIG, V1)


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("corpus", "workspace"),
        ("sft", "no corpus 'corpus'"),
        ("trees", "no corpus 'corpus'"),
        ("pairs", "no rollout trees"),
        ("champion", "no report"),
    ],
)
def test_a_stage_says_what_must_come_before_it(home, stage, missing):
    with pytest.raises(FlywheelError, match=missing):
        stages.run(stage, home, CONFIG, V1)


def test_without_a_champion_nobody_acts(home):
    assert stages.run("champion_episodes", home, CONFIG, V1).counts == {"episodes": 0, "success": 0.0}


def test_what_a_killed_run_left_half_written_is_cleared(home, monkeypatch):
    monkeypatch.setattr(artifacts, "FRESH", -1.0)
    left = home.trees / f".{V1.key}.{'0' * 32}.tmp"
    left.mkdir(parents=True)
    stages.run("champion_episodes", home, CONFIG, V1)
    assert not left.exists()


def test_a_process_that_comes_second_waits_for_the_first(home):
    home.root.mkdir()
    with (home.root / ".champion_episodes.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(stages.run, "champion_episodes", home, CONFIG, V1)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.2)
            # Another stage does not wait.
            with pytest.raises(FlywheelError, match="no report"):
                stages.run("champion", home, CONFIG, V1)
            fcntl.flock(first, fcntl.LOCK_UN)
            assert second.result(timeout=5).counts == {"episodes": 0, "success": 0.0}
