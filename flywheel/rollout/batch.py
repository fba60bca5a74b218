"""Batch runs: tasks x policies x samples, each played once, captured like production, and gone on with after a kill."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.capture import Recorder, journal
from flywheel.capture.erasure import Tombstones, records
from flywheel.capture.journal import Whole
from flywheel.capture.recorder import utc_now
from flywheel.environments.protocol import Act, Actor, Environment, Situation, Task, opening
from flywheel.rollout.episode import Episode, play
from flywheel.schema import (
    TRAJECTORIES,
    EndState,
    FlywheelError,
    Outcome,
    Step,
    Trajectory,
    canonical_json,
    stable_id,
)
from flywheel.settings import Home

SOURCE = "run"
LONGEST_ERROR = 2_000  # characters


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


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of all cells of one policy; `success` and `credit` are means over those that were scored."""

    policy: str
    version: str
    cells: int
    completed: int
    partial: int
    failed: int
    success: float | None
    credit: float | None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """How often a tool was called, and with what success; `error_rate` is the share of calls that failed."""

    count: int
    success: int
    failure: int
    error_rate: float


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that an error ended."""

    id: str
    task: str
    policy: str
    error: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run: `cells` is `played` now + `already_there` + `forgotten` (erased on demand, and not played again)."""

    workspace: str
    cells: int
    played: int
    already_there: int
    forgotten: int
    policies: list[Result]
    tools: dict[str, Tool]
    failures: list[Failure]


def run(
    home: Home,
    workspace: str,
    works: Sequence[Work],
    players: Sequence[Player],
    rules: Rules,
    *,
    concurrency: int = 4,
    retry_failed: bool = False,
    clock: Callable[[], datetime] = utc_now,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Play every cell that was not played yet, and record it with the checker's verdict; tell of all of them.

    A cell is named by what it is, so a run that was killed is gone on with by running it again. What an actor raises
    ends its cell as failed, with the steps so far and the error; `retry_failed` plays those again, as another attempt.
    Up to `concurrency` calls of actors go on at once. `progress` is told of cells done, and of all.
    """
    cells = _cells(workspace, works, players, rules)
    known, forgotten = _known(home, workspace, cells)
    while retry_failed and any(one.end_state == "failed" for one in known.values()):
        cells = _retried(workspace, cells, known, rules)
        known, forgotten = _known(home, workspace, cells)
    missing = [cell for cell in cells if cell.id not in known and cell.id not in forgotten]
    blocks = _blocks(cells, {cell.id for cell in missing})
    done = len(cells) - len(missing)
    if progress:
        progress(done, len(cells))
    with closing(Recorder(home, workspace, agent=SOURCE, source=SOURCE, clock=clock)) as recorder:
        for played in _played(blocks, rules, concurrency):
            new = [(cell, take) for cell, take in played if cell.id not in known]
            _record(recorder, workspace, new, rules, clock())
            known |= {cell.id: Known(take.end_state, _about(cell, take, rules)) for cell, take in new}
            done += len(new)
            if progress:
                progress(done, len(cells))
    return _report(workspace, cells, known, len(missing), len(forgotten))


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as it was played; one that failed has no episode's verdict."""

    steps: tuple[Step, ...]
    end_state: EndState
    began: datetime
    seconds: float
    episode: Episode | None = None
    error: str = ""


def _cells(workspace: str, works: Sequence[Work], players: Sequence[Player], rules: Rules) -> list[Cell]:
    if not works or not players or not any(work.tasks for work in works):
        raise FlywheelError("there is nothing to run: give at least one policy, and one task")
    cells = [
        _cell(workspace, work, task, player, sample, 0, rules)
        for player in players
        for work in works
        for task in work.tasks
        for sample in range(rules.samples)
    ]
    if len({cell.id for cell in cells}) < len(cells):
        raise FlywheelError("a policy or a task is named twice: each is played once for every sample")
    return cells


def _cell(workspace: str, work: Work, task: Task, player: Player, sample: int, attempt: int, rules: Rules) -> Cell:
    actor, environment = player.actor, work.environment
    played = (repr(rules.temperature), str(rules.max_turns), str(sample), str(attempt))
    by = (actor.name, actor.version, player.model, player.provider)
    where = (environment.name, environment.checker_version, task.id)
    id = stable_id(SOURCE, workspace, *where, *by, *played)
    return Cell(work=work, task=task, player=player, sample=sample, attempt=attempt, id=id)


def _known(home: Home, workspace: str, cells: Sequence[Cell]) -> tuple[dict[str, Known], set[str]]:
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


def _retried(workspace: str, cells: Sequence[Cell], known: dict[str, Known], rules: Rules) -> list[Cell]:
    """The cells with the next attempt in the place of one that failed."""
    return [
        _cell(workspace, c.work, c.task, c.player, c.sample, c.attempt + 1, rules)
        if c.id in known and known[c.id].end_state == "failed"
        else c
        for c in cells
    ]


def _blocks(cells: Sequence[Cell], missing: set[str]) -> list[list[Cell]]:
    """Cells that are played by one call, where one of them is missing.

    Which they are depends on the plan alone, not on what is done: a model that samples them together says the same.
    """
    blocks: list[list[Cell]] = []
    for cell in cells:
        last = blocks[-1] if blocks else None
        if last and last[0].player is cell.player and last[0].work is cell.work and len(last) < cell.player.rows:
            last.append(cell)
        else:
            blocks.append([cell])
    return [block for block in blocks if any(cell.id in missing for cell in block)]


def _played(blocks: Sequence[list[Cell]], rules: Rules, concurrency: int) -> Iterator[list[tuple[Cell, Take]]]:
    """The blocks as they are played, all that are done at a time."""
    alone = {id(block[0].player): threading.Lock() for block in blocks if not block[0].player.shared}

    def work(block: list[Cell]) -> list[tuple[Cell, Take]]:
        lock = alone.get(id(block[0].player))
        if lock is None:
            return _play(block, rules)
        with lock:
            return _play(block, rules)

    todo, going = iter(blocks), set[Future[list[tuple[Cell, Take]]]]()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="play")
    try:
        while True:
            while len(going) < 2 * concurrency and (block := next(todo, None)):
                going.add(pool.submit(work, block))
            if not going:
                return
            over, going = wait(going, return_when=FIRST_COMPLETED)
            yield [played for future in over for played in future.result()]
    finally:
        pool.shutdown(cancel_futures=True)


def _play(block: list[Cell], rules: Rules) -> list[tuple[Cell, Take]]:
    began, clock = utc_now(), time.monotonic()
    watched = _Watched(block[0].player.actor)
    try:
        episodes = play(
            block[0].work.environment,
            [cell.task for cell in block],
            watched,
            temperature=rules.temperature,
            seed=int(block[0].id[:8], 16),
            max_turns=rules.max_turns,
            batch=len(block),
        )
    except Exception as error:
        if len(block) > 1:
            # Perhaps one of them alone cannot be played.
            return [played for cell in block for played in _play([cell], rules)]
        text = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
        steps = watched.steps or opening(block[0].task)
        seconds = time.monotonic() - clock
        return [(block[0], Take(steps=steps, end_state="failed", began=began, seconds=seconds, error=text))]
    seconds = (time.monotonic() - clock) / len(block)
    return [
        (cell, Take(steps=e.steps, end_state=e.end_state, began=began, seconds=seconds, episode=e))
        for cell, e in zip(block, episodes, strict=True)
    ]


class _Watched:
    """An actor, with the steps that the first of its situations had when it was last asked."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self.name, self.version = actor.name, actor.version
        self.steps: tuple[Step, ...] = ()

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        self.steps = situations[0].steps
        return self._actor.act(situations, n=n, temperature=temperature, seed=seed)


def _about(cell: Cell, take: Take, rules: Rules) -> dict[str, Any]:
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


def _record(
    recorder: Recorder, workspace: str, played: Sequence[tuple[Cell, Take]], rules: Rules, now: datetime
) -> None:
    """Record cells, their verdicts first: a cell that is there was judged."""
    trajectories: list[Trajectory] = []
    outcomes: list[Outcome] = []
    for cell, take in played:
        about = _about(cell, take, rules)
        actor, environment = cell.player.actor, cell.work.environment
        trajectories.append(
            Trajectory(
                id=cell.id,
                workspace=workspace,
                task_id=cell.task.id,
                task_group=cell.task.group,
                task_type=environment.name,
                agent=actor.name,
                agent_version=actor.version,
                model=cell.player.model,
                provider=cell.player.provider,
                tools=canonical_json(list(environment.tools)),
                end_state=take.end_state,
                started_at=take.began,
                arrived_at=now,
                source=SOURCE,
                metadata=canonical_json(about),
                # A prompt without a system message has an empty one.
                steps=tuple(step for step in take.steps if step.role != "system" or step.content),
            )
        )
        if "score" in about:
            score = about["score"]
            outcomes += [
                Outcome(
                    workspace=workspace,
                    trajectory_id=cell.id,
                    signal=signal,
                    value=float(value),
                    source="environment",
                    checker_version=environment.checker_version,
                    observed_at=now,
                    arrived_at=now,
                )
                for signal, value in (("checker", score["success"]), ("checker_credit", score["credit"]))
            ]
    with recorder.batch():
        recorder.record(outcomes=outcomes)
        recorder.record(trajectories)


def _report(workspace: str, cells: Sequence[Cell], known: dict[str, Known], played: int, forgotten: int) -> Report:
    tools: dict[str, Counter[str]] = {}
    for cell in cells:
        for name, counts in (known[cell.id].about.get("tool_stats", {}) if cell.id in known else {}).items():
            tools.setdefault(name, Counter()).update(counts)
    failures = [
        Failure(id=c.id, task=c.task.id, policy=c.player.actor.name, error=known[c.id].about.get("error", ""))
        for c in cells
        if c.id in known and known[c.id].end_state == "failed"
    ]
    return Report(
        workspace=workspace,
        cells=len(cells),
        played=played,
        already_there=len(cells) - played - forgotten,
        forgotten=forgotten,
        policies=[
            _result(player, [known[c.id] for c in cells if c.player is player and c.id in known])
            for player in _players(cells)
        ],
        tools={
            name: Tool(
                count=counts["count"],
                success=counts["success"],
                failure=counts["failure"],
                error_rate=round(counts["failure"] / max(1, counts["count"]), 4),
            )
            for name, counts in sorted(tools.items())
        },
        failures=failures,
    )


def _players(cells: Sequence[Cell]) -> list[Player]:
    found: list[Player] = []
    for cell in cells:
        if not any(cell.player is player for player in found):
            found.append(cell.player)
    return found


def _result(player: Player, known: Sequence[Known]) -> Result:
    states = Counter(one.end_state for one in known)
    scores = [one.about["score"] for one in known if "score" in one.about]
    return Result(
        policy=player.actor.name,
        version=player.actor.version,
        cells=len(known),
        completed=states["completed"],
        partial=states["partial"],
        failed=states["failed"],
        success=sum(score["success"] for score in scores) / len(scores) if scores else None,
        credit=sum(score["credit"] for score in scores) / len(scores) if scores else None,
    )
