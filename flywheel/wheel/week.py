"""A simulated week of production, captured through the recorder; what comes of it arrives on later days."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import msgspec

from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.capture.recorders.recorder import Recorder
from flywheel.environments import week as rota
from flywheel.environments.aftermath import aftermath, first_verdict
from flywheel.environments.protocol import Actor, Environment, Task
from flywheel.rollout.episode import Episode, play
from flywheel.schema import Outcome, Trajectory, canonical_json, outcomes_table, stable_id
from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig

# Agents work from eight to eight, and their episodes arrive evenly over that time.
OPENS = timedelta(hours=8)
OPEN_FOR = timedelta(hours=12)


def work(home: Home, config: WheelConfig, day: date) -> tuple[int, int]:
    """Let the agents of a day act, and the late outcomes that are due on it arrive; returns the counts of both.

    The same day gives the same records under the same ids: done twice, it adds nothing.
    """
    workspaces.create(home, config.workspace)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    index = (day - config.week_start).days
    episodes = 0
    if 0 <= index < config.working_days:
        assignments = rota.plan(index, config.seed, config.episodes_a_day, config.environments)
        shifts = groupby(assignments, key=lambda a: (a.environment.name, a.agent.version))
        played: list[tuple[Environment, Actor, Episode]] = []
        for _, shift in shifts:
            rows = list(shift)
            environment, agent = rows[0].environment, rows[0].agent
            played += [
                (environment, agent, episode)
                for episode in play(environment, [row.task for row in rows], agent, temperature=1.0, seed=config.seed)
            ]
        capture(home, config, played, since=midnight + OPENS, key=day.isoformat())
        episodes = len(played)
    return episodes, _deliver(home, config, midnight)


def capture(
    home: Home,
    config: WheelConfig,
    played: Sequence[tuple[Environment, Actor, Episode]],
    since: datetime,
    key: str,
) -> None:
    """Record episodes with the checker's first verdict, and keep what will be heard of them for its day."""
    trajectories: list[Trajectory] = []
    verdicts: list[Outcome] = []
    late: list[Outcome] = []
    pace = OPEN_FOR / max(1, len(played))
    for number, (environment, actor, episode) in enumerate(played):
        at = since + pace * number
        trajectory = _trajectory(config, environment, actor, episode, at, key)
        trajectories.append(trajectory)
        verdict = first_verdict(episode.task, episode.steps, episode.score)
        verdicts.append(_outcome(trajectory, "checker", verdict, at, environment.checker_version))
        for signal in aftermath(episode.task, episode.steps, episode.score, config.seed):
            heard = at + timedelta(hours=signal.delay_hours)
            late.append(_outcome(trajectory, signal.signal, signal.value, heard))
    artifacts.write_parquet(home.forthcoming / f"{key}.parquet", outcomes_table(late))
    with closing(Recorder(home, config.workspace, agent="week")) as recorder:
        recorder.record(trajectories, verdicts)


def _trajectory(
    config: WheelConfig, environment: Environment, actor: Actor, episode: Episode, at: datetime, key: str
) -> Trajectory:
    task: Task = episode.task
    return Trajectory(
        id=stable_id("week", key, str(config.seed), actor.name, actor.version, task.id),
        workspace=config.workspace,
        task_id=task.id,
        task_group=task.group,
        task_type=environment.name,
        agent=actor.name,
        agent_version=actor.version,
        model=f"{actor.name}-{actor.version}",
        provider="flywheel",
        tools=canonical_json(list(environment.tools)),
        end_state=episode.end_state,
        started_at=at - timedelta(minutes=1),
        arrived_at=at,
        source=f"week/{key}",
        steps=episode.steps,
    )


def _outcome(trajectory: Trajectory, signal: str, value: float, at: datetime, checker_version: str = "") -> Outcome:
    return Outcome(
        workspace=trajectory.workspace,
        trajectory_id=trajectory.id,
        signal=signal,
        value=value,
        source="environment" if checker_version else "people",
        checker_version=checker_version,
        observed_at=at,
        arrived_at=at,
    )


def _deliver(home: Home, config: WheelConfig, midnight: datetime) -> int:
    """Record the late outcomes that are due on the day."""
    if not any(home.forthcoming.glob("*.parquet")):
        return 0
    with warehouse.connect() as connection:
        rows = connection.sql(
            "SELECT * FROM read_parquet($files) WHERE arrived_at >= $since AND arrived_at < $until ORDER BY id",
            params={
                "files": str(home.forthcoming / "*.parquet"),
                "since": midnight,
                "until": midnight + timedelta(days=1),
            },
        ).to_arrow_table()
    due = [msgspec.convert({n: row[n] for n in Outcome.__struct_fields__}, Outcome) for row in rows.to_pylist()]
    with closing(Recorder(home, config.workspace, agent="week")) as recorder:
        recorder.record(outcomes=due)
    return len(due)
