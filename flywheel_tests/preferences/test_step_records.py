"""Step records: advantages of siblings around the value of the state they were sampled from."""

import pytest

from flywheel.preferences.step_records import step_records
from flywheel_tests.preferences.test_pairs import boxes


def test_the_steps_of_a_locked_box():
    rows = [row for row in step_records(boxes()).to_pylist() if row["task_id"] == "train-0-1"]
    # Three of four samples push, which is in vain (.0 credit); one looks, and refuses rightly (1.0).
    assert [(r["trajectory_uid"][-1], r["step_index"], r["group"][-1], r["value"], r["advantage"]) for r in rows] == [
        ("3", 0, "0", 0.25, -0.25),
        ("3", 1, "1", 0.0, 0.0),
        ("4", 0, "0", 0.25, -0.25),
        ("4", 1, "1", 0.0, 0.0),
        ("5", 0, "0", 0.25, 0.75),
        ("5", 1, "2", 1.0, 0.0),
    ]


def test_the_advantages_of_a_path_add_up_to_what_it_reached_beyond_the_value_of_its_root():
    paths: dict[str, list[dict[str, float]]] = {}
    for row in step_records(boxes(6)).to_pylist():
        paths.setdefault(row["trajectory_uid"], []).append(row)
    for steps in paths.values():
        reached = sum(step["step_reward"] for step in steps)
        assert sum(step["advantage"] for step in steps) == pytest.approx(reached - steps[0]["value"])
