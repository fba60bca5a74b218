"""The simulated week is captured as production is, and is the same each time it is lived."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq

from flywheel import environments
from flywheel.capture import workspaces
from flywheel.capture.settling.settle import settle
from flywheel.environments import agents
from flywheel.rollout.episode import play
from flywheel.schema import TRAJECTORIES
from flywheel.settings import Home
from flywheel.warehouse import read
from flywheel.wheel import week
from flywheel.wheel.config import WheelConfig

CONFIG = WheelConfig(workspace="support", environments=("desk",), episodes_a_day=12, working_days=1)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def played(n: int):
    desk = environments.get("desk")
    return [(desk, agents.REFERENCE, episode) for episode in play(desk, desk.tasks("train", n, 1), agents.REFERENCE)]


def captured(home: Home):
    settle(home, CONFIG.workspace, now=NOON + timedelta(days=1))
    return read(home.captures, TRAJECTORIES, CONFIG.workspace).sort_by("arrived_at").to_pylist()


def test_episodes_arrive_evenly_over_half_a_day(home):
    workspaces.create(home, CONFIG.workspace)
    week.capture(home, CONFIG, played(4), since=NOON, key="a-shift")
    rows = captured(home)
    assert [row["arrived_at"] - NOON for row in rows] == [timedelta(hours=3 * n) for n in range(4)]
    assert {(row["source"], row["task_type"], row["end_state"]) for row in rows} == {
        ("week/a-shift", "desk", "completed")
    }


def test_what_will_be_heard_is_kept_for_its_day(home):
    workspaces.create(home, CONFIG.workspace)
    week.capture(home, CONFIG, played(60), since=NOON, key="a-shift")
    arrived = {row["id"]: row["arrived_at"] for row in captured(home)}
    forthcoming = pq.read_table(home.forthcoming / "a-shift.parquet").to_pylist()
    assert forthcoming
    for row in forthcoming:
        assert row["signal"] == environments.get("desk").late_signal
        assert timedelta(hours=2) <= row["arrived_at"] - arrived[row["trajectory_id"]] <= timedelta(days=8)


def test_another_seed_is_another_week_and_the_same_seed_the_same(tmp_path):
    ids = []
    for number, seed in enumerate((0, 0, 1)):
        home = Home(tmp_path / str(number))
        config = WheelConfig(**{name: getattr(CONFIG, name) for name in CONFIG.__struct_fields__} | {"seed": seed})
        assert week.work(home, config, CONFIG.week_start)[0] == 12
        ids.append([row["id"] for row in captured(home)])
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
