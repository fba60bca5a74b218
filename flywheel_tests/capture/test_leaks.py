"""Rewards printed in observations are masked, and become outcomes of their own."""

from datetime import UTC, datetime

import pytest

from flywheel.capture import leaks
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
    ("text", "masked", "values"),
    [
        ("done, reward = True", "done, reward = <LABEL>", [1.0]),
        ("Reward: 0.25 after 3 turns", "Reward: <LABEL> after 3 turns", [0.25]),
        ("the reward is 1.", "the reward is <LABEL>.", [1.0]),
        ('{"reward": 0.0, "done": true}', '{"reward": null, "done": true}', [0.0]),
        ("reward=False reward=1", "reward=<LABEL> reward=<LABEL>", [0.0, 1.0]),
    ],
)
def test_a_printed_reward_is_masked_and_told(text: str, masked: str, values: list[float]) -> None:
    clean, printed = leaks.masked(trajectory("tool", text))
    assert clean.steps[1].content == masked
    assert printed == [(1, value) for value in values]


@pytest.mark.parametrize("text", ["reward points: 500", "Reward: 500 points", "a reward of 1 euro", "rewarding: 1"])
def test_other_rewards_stay(text: str) -> None:
    assert leaks.masked(trajectory("tool", text)) == (trajectory("tool", text), [])


def test_what_the_agent_says_itself_is_no_observation() -> None:
    said = trajectory("assistant", "reward = True")
    assert leaks.masked(said) == (said, [])
