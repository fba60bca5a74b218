"""Cells of batch runs: one task, one policy, one sample; what they are named by, and what is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture.erasing.erasure import Tombstones, records
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Whole
from flywheel.environments.protocol import Actor, Environment, Task
from flywheel.rollout.episode import Episode
from flywheel.schema import TRAJECTORIES, EndState, FlywheelError, Step, stable_id
from flywheel.settings import Home

SOURCE = "run"


class Player(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that plays: who acts, by which model of which provider.

    `rows` tasks are played at once by one call of the actor; only one that is `shared` is called by several threads.
    """

    actor: Actor
    model: str
    provider: str
    rows: int = 1
    shared: bool = True


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of an environment that all players play, `samples` times each."""

    environment: Environment
    tasks: tuple[Task, ...]
    split: str
    seed: int


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How tasks are played: samples of each, temperature, and the assistant's steps after which one is partial."""

    samples: int = 1
    temperature: float = 1.0
    max_turns: int = 12


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One task, played by one policy as one of its samples; `attempt` counts those before it that failed."""

    work: Work
    task: Task
    player: Player
    sample: int
    attempt: int
    id: str


class Known(msgspec.Struct, frozen=True):
    """A cell that was played: how it ended, and what was noted of it."""

    end_state: EndState
    about: dict[str, Any]


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as it was played; one that failed has no episode's verdict."""

    steps: tuple[Step, ...]
    end_state: EndState
    began: datetime
    seconds: float
    episode: Episode | None = None
    error: str = ""


def plan(workspace: str, works: Sequence[Work], players: Sequence[Player], rules: Rules) -> list[Cell]:
    """All cells of a run, by policy, environment, task and sample.

    Raises:
        FlywheelError: when there is none, or one is there twice.
    """
    if not works or not players or not any(work.tasks for work in works):
        raise FlywheelError("there is nothing to run: give at least one policy, and one task")
    made = [
        _cell(workspace, work, task, player, sample, 0, rules)
        for player in players
        for work in works
        for task in work.tasks
        for sample in range(rules.samples)
    ]
    if len({cell.id for cell in made}) < len(made):
        raise FlywheelError("a policy or a task is named twice: each is played once for every sample")
    return made


def _cell(workspace: str, work: Work, task: Task, player: Player, sample: int, attempt: int, rules: Rules) -> Cell:
    actor, environment = player.actor, work.environment
    played = (repr(rules.temperature), str(rules.max_turns), str(sample), str(attempt))
    by = (actor.name, actor.version, player.model, player.provider)
    where = (environment.name, environment.checker_version, task.id)
    id = stable_id(SOURCE, workspace, *where, *by, *played)
    return Cell(work=work, task=task, player=player, sample=sample, attempt=attempt, id=id)


def recorded(home: Home, workspace: str, cells: Sequence[Cell]) -> tuple[dict[str, Known], set[str]]:
    """The cells that were recorded, stored already or not, and those that were erased."""
    ids = {cell.id for cell in cells}
    known: dict[str, Known] = {}
    # Journals first: what is settled meanwhile is found among what is stored.
    for path in journal.paths(home.journals / workspace):
        try:
            events, _ = journal.read(path)
        except FileNotFoundError:
            continue
        for _, event in events:
            if isinstance(event, Whole) and event.trajectory.id in ids:
                known[event.trajectory.id] = _noted(event.trajectory.end_state, event.trajectory.metadata)
    with warehouse.connect() as connection:
        connection.register("asked", pa.table({"id": pa.array(sorted(ids), pa.string())}))
        stored = connection.sql(
            f"SELECT id, end_state, metadata FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)} "
            "SEMI JOIN asked USING (id)"
        ).fetchall()
    known |= {id: _noted(end_state, metadata) for id, end_state, metadata in stored}
    return known, Tombstones(records(home, workspace)).named(ids - known.keys())


def _noted(end_state: EndState, metadata: str) -> Known:
    return Known(end_state, msgspec.json.decode(metadata))


def retried(workspace: str, cells: Sequence[Cell], known: dict[str, Known], rules: Rules) -> list[Cell]:
    """The cells with the next attempt in the place of one that failed."""
    return [
        _cell(workspace, c.work, c.task, c.player, c.sample, c.attempt + 1, rules)
        if c.id in known and known[c.id].end_state == "failed"
        else c
        for c in cells
    ]


def noted(cell: Cell, take: Take, rules: Rules) -> dict[str, Any]:
    """What is noted of a cell beside its steps."""
    about: dict[str, Any] = {
        "split": cell.work.split,
        "seed": cell.work.seed,
        "sample": cell.sample,
        "attempt": cell.attempt,
        "temperature": rules.temperature,
        "max_turns": rules.max_turns,
        "toolsets": [cell.work.environment.name] if cell.work.environment.tools else [],
        "tool_stats": tool_stats(take.steps),
        "seconds": round(take.seconds, 3),
    }
    if take.error:
        about["error"] = take.error
    elif take.episode and cell.work.environment.checker_version:
        score = take.episode.score
        about["score"] = {"success": score.success, "credit": score.credit, "checks": score.checks}
    return about


def tool_stats(steps: Sequence[Step]) -> dict[str, dict[str, int]]:
    """Calls of each tool that was called, in alphabetical order: `count`, and how many had `success` or `failure`."""
    called: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for step in steps:
        if step.role == "tool":
            called[step.tool_name or ""] += 1
            failed[step.tool_name or ""] += bool(step.is_error)
    return {
        name: {"count": called[name], "success": called[name] - failed[name], "failure": failed[name]}
        for name in sorted(called)
    }
