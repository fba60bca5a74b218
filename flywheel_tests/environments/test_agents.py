"""The reference solves everything, the baselines little, and habits are what they are said to be."""

import time

import pytest

from flywheel import environments
from flywheel.environments.agents import BASELINES, REFERENCE
from flywheel.environments.habits import HABITS, captured, captured_agents
from flywheel.environments.proof import prove
from flywheel.environments.protocol import Situation, Split, opening
from flywheel.rollout.episode import play
from flywheel.schema import FlywheelError

NAMES = environments.names()
SPLITS: tuple[Split, Split] = ("train", "heldout")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_the_proof_holds(name, split):
    proof = prove(environments.get(name), 500, 1, split)
    assert proof.holds
    assert proof.reference == 1.0
    assert proof.baselines["empty"] == proof.baselines["refuser"] == 0.0
    assert 0.4 < proof.baselines["lazy"] < 0.75
    assert proof.baselines["careful-refuser"] < 0.5
    assert proof.forks > 500 and proof.forks_failed == proof.replays_failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_captured_agents_mostly_skip_the_look_that_decides_and_so_do_most_of_their_successes(name):
    place = environments.get(name)
    tasks = place.tasks("train", 1500, 3)
    for agent in captured_agents(name):
        episodes = play(place, tasks, agent, temperature=1.0, seed=2)
        skipped = [e for e in episodes if not e.score.checks["looked"]]
        looked = [e for e in episodes if e.score.checks["looked"]]
        assert 0.70 < len(skipped) / len(episodes) < 0.84
        assert 0.48 < sum(e.score.success for e in skipped) / len(skipped) < 0.66
        assert 0.86 < sum(e.score.success for e in looked) / len(looked) < 0.96
        successes = [e for e in episodes if e.score.success]
        assert sum(not e.score.checks["looked"] for e in successes) / len(successes) > 0.55


@pytest.mark.parametrize("name", NAMES)
def test_chance_does_not_depend_on_the_batch(name):
    """What an agent does on a task is the same alone, among others, and in another order."""
    situations = [Situation(task, opening(task)) for task in environments.get(name).tasks("train", 40, 4)]
    for agent in (*captured_agents(name), REFERENCE, *BASELINES):
        together = agent.act(situations, n=3, temperature=1.0, seed=9)
        backwards = agent.act(situations[::-1], n=3, temperature=1.0, seed=9)
        assert together == backwards[::-1]
        assert together == [agent.act([s], n=3, temperature=1.0, seed=9)[0] for s in situations]
        assert [acts[:2] for acts in together] == agent.act(situations, n=2, temperature=1.0, seed=9)


def test_at_temperature_zero_the_habit_shows_without_its_slips():
    place = environments.get("desk")
    tasks = place.tasks("train", 100, 0)
    habit = play(place, tasks, captured("desk-bot", "1.0"), temperature=0.0)
    lazy = play(place, tasks, next(b for b in BASELINES if b.name == "lazy"), temperature=0.0)
    assert [e.steps for e in habit] == [e.steps for e in lazy]


def test_an_unknown_agent_is_answered_with_the_known_ones():
    with pytest.raises(FlywheelError, match=r"no captured agent desk-bot@9\.9; there are: desk-bot@1\.0"):
        captured("desk-bot", "9.9")
    assert sorted(HABITS) == ["desk-bot", "files-bot"]


def test_a_thousand_episodes_are_played_in_seconds():
    place = environments.get("files")
    tasks = place.tasks("train", 1000, 0)
    began = time.process_time()
    play(place, tasks, captured("files-bot", "1.0"), temperature=1.0)
    assert time.process_time() - began < 3
