"""A forest is grown once, and found grown only where the same actor grew it under the same settings."""

import msgspec
import pytest

from flywheel.environments.protocol import Situation
from flywheel.rollout import storage
from flywheel.rollout.forest import Forest, plant
from flywheel.rollout.tree import TreeConfig
from flywheel.schema import Step
from flywheel_tests.rollout.toy import Script, say

FOREST = Forest(environments=("desk",), tasks=2, tree=TreeConfig(width=2, max_nodes=4), alone=1)


class Counting(Script):
    """An actor that gives up at once, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(self.give_up)
        self.asked = 0

    def give_up(self, situation: Situation, n: int) -> list[Step]:
        self.asked += 1
        return [say("Sorry, no.")] * n


@pytest.fixture
def actor() -> Counting:
    return Counting()


def test_what_is_grown_is_found(tmp_path, actor):
    grown = plant(tmp_path / "trees", actor, FOREST)
    asked = actor.asked
    assert (grown.trees, grown.nodes) == (2, 2)
    assert plant(tmp_path / "trees", actor, FOREST) == grown
    assert actor.asked == asked


def test_other_settings_or_another_actor_grow_it_anew(tmp_path, actor):
    plant(tmp_path / "trees", actor, FOREST)
    plant(tmp_path / "trees", actor, msgspec.structs.replace(FOREST, tasks=3))
    assert len(storage.load(tmp_path / "trees")) == 3
    asked = actor.asked
    actor.version = "2"
    plant(tmp_path / "trees", actor, msgspec.structs.replace(FOREST, tasks=3))
    assert actor.asked > asked
