"""Two versions compared by what one recipe learns from each of them."""

import msgspec
import pytest

from flywheel.corpus.snapshot import branch, snapshot
from flywheel.evaluate.corpora import teach
from flywheel.evaluate.suite import Suite
from flywheel.schema import FlywheelError
from flywheel.train.config import SFTRun, Size
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write
from flywheel_tests.evaluate.toy import Toy

RECIPE = SFTRun(data="", size=Size(width=16, layers=1, heads=2, feed_forward=32), steps=2, batch=2, warmup=1)
SUITE = Suite(environments={"toy": 8}, max_turns=2)


@pytest.fixture
def two(home):
    """`support@v1`, and a branch of it that keeps the failures too."""
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n not in (3, 7))) for n in range(12)])
    snapshot(home, "support", SPEC, MONDAY)
    branch(home, "support", "all", msgspec.structs.replace(SPEC, filter="true"))
    return home


def test_one_recipe_is_trained_on_both_and_judged_on_the_same_tasks(two):
    heard = []
    found = teach(
        two,
        "support@v1",
        "support@v2",
        RECIPE,
        SUITE,
        seeds=(0, 1),
        lookup=Toy,
        told=lambda what, done, of: heard.append((what, done, of)),
    )
    assert [t.seed for t in found] == [0, 1]
    assert len({policy for t in found for policy in t.policies}) == 4
    for taught in found:
        assert [rate.policy for rate in taught.success] == ["support@v1", "support@v2"]
        paired = taught.comparison.paired
        assert (paired.n, paired.difference) == (8, taught.success[0].success - taught.success[1].success)
        assert paired.low <= paired.difference <= paired.high
    assert ("training on support@v1, seed 0", 2, 2) in heard
    assert ("playing support@v2, seed 1", 8, 8) in heard
    # Asked again, all of it is found.
    assert teach(two, "support@v1", "support@v2", RECIPE, SUITE, seeds=(0, 1), lookup=Toy) == found


def test_one_version_is_not_compared_with_itself(two):
    with pytest.raises(FlywheelError, match="cannot be compared with itself"):
        teach(two, "support@v1", "support@v1", RECIPE, SUITE)
