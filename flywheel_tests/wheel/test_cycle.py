"""The cycle table lists stages in the order of a turn, with the bottleneck named."""

import pytest

from flywheel import artifacts
from flywheel.wheel import cycle


def _kept(home, key, stage, seconds):
    artifacts.write_json(home.cycle / f"{key}.{stage}.json", {"key": key, "stage": stage, "seconds": seconds})


def test_rows_are_in_the_order_of_a_turn_and_shares_add_up(home):
    _kept(home, "v1-x", "sft", 60.0)
    _kept(home, "2026-11-02", "captures", 10.0)
    _kept(home, "2026-11-03", "captures", 10.0)
    assert cycle.table(home) == [
        {"stage": "captures", "seconds": 20.0, "share": 0.25, "bottleneck": False},
        {"stage": "sft", "seconds": 60.0, "share": 0.75, "bottleneck": True},
    ]


def test_a_stage_that_fails_leaves_no_time(home):
    with pytest.raises(ValueError, match="broken"), cycle.timed(home, "v1-x", "sft"):
        raise ValueError("broken")
    assert cycle.table(home) == []


def test_a_stage_that_ends_well_leaves_its_time(home):
    with cycle.timed(home, "v1-x", "pairs"):
        pass
    [row] = cycle.table(home)
    assert row["stage"] == "pairs" and row["bottleneck"]


def test_the_first_time_counts(home):
    _kept(home, "v1-x", "trees", 60.0)
    with cycle.timed(home, "v1-x", "trees"):
        pass
    assert cycle.table(home)[0]["seconds"] == 60.0


def test_a_table_can_be_of_some_days_and_versions_alone(home):
    _kept(home, "v1-x", "sft", 60.0)
    _kept(home, "v2-y", "sft", 20.0)
    _kept(home, "2026-11-02", "captures", 5.0)
    assert cycle.table(home, {"v2-y", "2026-11-02"}) == [
        {"stage": "captures", "seconds": 5.0, "share": 0.2, "bottleneck": False},
        {"stage": "sft", "seconds": 20.0, "share": 0.8, "bottleneck": True},
    ]
