"""Rewards printed in observations are masked, and counted."""

from datetime import UTC, datetime

import pytest

from flywheel.capture.redaction import leaks
from flywheel.schema import Role, Step, Trajectory


def trajectory(role: Role, content: str) -> Trajectory:
    return Trajectory(
        id="t",
        workspace="desk",
        task_id="1",
        task_group="1",
        task_type="desk",
        agent="a",
        end_state="completed",
        arrived_at=datetime(2026, 1, 5, tzinfo=UTC),
        source="test",
        steps=(Step(role="system", content="Be good."), Step(role=role, content=content)),
    )


@pytest.mark.parametrize(
    ("text", "masked", "count"),
    [
        ("done, reward = True", "done, reward = <LABEL>", 1),
        ("Reward: 0.25 after 3 turns", "Reward: <LABEL> after 3 turns", 1),
        ("the reward is 1.", "the reward is <LABEL>.", 1),
        ('{"reward": 0.0, "done": true}', '{"reward": null, "done": true}', 1),
        ("reward=False reward=1", "reward=<LABEL> reward=<LABEL>", 2),
    ],
)
def test_a_printed_reward_is_masked(text: str, masked: str, count: int) -> None:
    clean, found = leaks.masked(trajectory("tool", text))
    assert (clean.steps[1].content, found) == (masked, count)
    assert clean.metadata == f'{{"labels_masked":{count}}}'


@pytest.mark.parametrize("text", ["reward points: 500", "Reward: 500 points", "a reward of 1 euro", "rewarding: 1"])
def test_other_rewards_stay(text: str) -> None:
    assert leaks.masked(trajectory("tool", text)) == (trajectory("tool", text), 0)


def test_what_the_agent_says_itself_is_no_observation() -> None:
    said = trajectory("assistant", "reward = True")
    assert leaks.masked(said) == (said, 0)
