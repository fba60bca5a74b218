"""Batch runs: tasks x policies x samples, each played once, captured like production, and gone on with after a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from datetime import datetime
from typing import Any

from flywheel.capture import Recorder
from flywheel.capture.recorders.recorder import utc_now
from flywheel.environments.protocol import Act, Actor, Situation, opening
from flywheel.rollout.batch_report import Report, report
from flywheel.rollout.cells import SOURCE, Cell, Known, Player, Rules, Take, Work, noted, plan, recorded, retried
from flywheel.rollout.episode import play
from flywheel.schema import Outcome, Step, Trajectory, canonical_json
from flywheel.settings import Home

LONGEST_ERROR = 2_000  # characters


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
    cells = plan(workspace, works, players, rules)
    known, forgotten = recorded(home, workspace, cells)
    while retry_failed and any(one.end_state == "failed" for one in known.values()):
        cells = retried(workspace, cells, known, rules)
        known, forgotten = recorded(home, workspace, cells)
    missing = [cell for cell in cells if cell.id not in known and cell.id not in forgotten]
    blocks = _blocks(cells, {cell.id for cell in missing})
    done = len(cells) - len(missing)
    if progress:
        progress(done, len(cells))
    with closing(Recorder(home, workspace, agent=SOURCE, source=SOURCE, clock=clock)) as recorder:
        for played in _played(blocks, rules, concurrency):
            new = [(cell, take) for cell, take in played if cell.id not in known]
            _record(recorder, workspace, new, rules, clock())
            known |= {cell.id: Known(take.end_state, noted(cell, take, rules)) for cell, take in new}
            done += len(new)
            if progress:
                progress(done, len(cells))
    return report(workspace, cells, known, len(missing), len(forgotten))


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


def _record(
    recorder: Recorder, workspace: str, played: Sequence[tuple[Cell, Take]], rules: Rules, now: datetime
) -> None:
    """Record cells, their verdicts first: a cell that is there was judged."""
    trajectories: list[Trajectory] = []
    outcomes: list[Outcome] = []
    for cell, take in played:
        about = noted(cell, take, rules)
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
                for signal, value in _told(score)
            ]
    with recorder.batch():
        recorder.record(outcomes=outcomes)
        recorder.record(trajectories)


def _told(score: dict[str, Any]) -> list[tuple[str, Any]]:
    """The signals of a verdict: `reward` is what a workspace is judged by unless its reward policy names others."""
    return [("reward", score["success"]), ("checker", score["success"]), ("checker_credit", score["credit"])]
