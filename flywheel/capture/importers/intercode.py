"""InterCode results: turns of code and what it printed, with a reward each (princeton-nlp/intercode, `eval_*.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import documents, records
from flywheel.capture.importers.records import Bad, Made, Origin, Record
from flywheel.schema import Step, ToolCall, canonical_json

NAME = "intercode"
# The log has an action as bare text; it becomes a call of the one tool that the environment offers.
ARGUMENTS = {"bash": "command", "sql": "query", "python": "code"}


class History(msgspec.Struct):
    """The turns, as lists side by side."""

    actions: list[str]
    observations: list[Any]
    rewards: list[float | None]
    valid_action: list[bool] | None = None
    thoughts: list[str | None] | None = None


class Summary(msgspec.Struct):
    """How many turns were taken and allowed. Its `max_reward` is the best turn's, not the last one's."""

    turns_taken: int | None = None
    turns_max: int | None = None


class Episode(msgspec.Struct):
    """One task. `info`, where it stands, holds the output of the reference command and is not read."""

    task_id: int | str
    query: str
    turn_history: History
    environment: str = "ic_unknown"
    dataset: str = ""
    hardness: str | None = None
    summary: Summary = msgspec.field(default_factory=Summary)


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds InterCode results."""
    return b'"turn_history"' in head


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The episodes of a file: an object by task, a list, or either as `logs` beside a `meta`."""
    with documents.opened(path) as data:
        start = 0
        first = next(documents.elements(data), None)
        if first and first.key in ("meta", "logs"):
            start = next((p.start for p in documents.elements(data) if p.key == "logs"), 0)
        yield from records.read(
            documents.elements(data, start), _make, format=NAME, path=path, workspace=workspace, arrived_at=arrived_at
        )


def _make(raw: Any, origin: Origin) -> Made:
    episode = msgspec.convert(raw, Episode)
    history = episode.turn_history
    lengths = {k: len(v) for k in History.__struct_fields__ if (v := getattr(history, k)) is not None}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise ValueError(f"the turns do not line up: {listed}")
    if any(reward is not None and not math.isfinite(reward) for reward in history.rewards):
        raise ValueError("a reward is not a finite number")
    kind = episode.environment.removeprefix("ic_")
    task = "-".join((NAME, kind, *([Path(episode.dataset).stem] if episode.dataset else []), str(episode.task_id)))
    last = history.rewards[-1] if history.rewards else None
    ran_out = episode.summary.turns_taken is not None and episode.summary.turns_taken == episode.summary.turns_max
    trajectory = origin.trajectory(
        # Models are told apart by the file's name alone, and two may well do the same on a task.
        also=origin.stem,
        task_id=task,
        task_group=task,
        task_type=f"{NAME}/{kind}",
        agent=origin.stem,
        model=origin.stem,
        tools=_tools(kind),
        end_state="partial" if ran_out and last != 1 else "completed",
        metadata={"dataset": episode.dataset or None, "hardness": episode.hardness},
        steps=_steps(episode.query, history, kind),
    )
    # Step 0 is the query; each turn is an action and an observation, and the reward is the action's.
    outcomes = [
        origin.outcome(trajectory, "reward", reward, step_index=1 + 2 * turn)
        for turn, reward in enumerate(history.rewards)
        if reward is not None
    ]
    known = [reward for reward in history.rewards if reward is not None]
    if last is not None:
        outcomes.append(origin.outcome(trajectory, "reward", last))
    if known:
        outcomes.append(origin.outcome(trajectory, "max_reward", max(known)))
    return trajectory, outcomes


def _steps(query: str, history: History, kind: str) -> tuple[Step, ...]:
    steps = [Step(role="user", content=query)]
    for turn, (action, observation) in enumerate(zip(history.actions, history.observations, strict=True)):
        text = observation if isinstance(observation, str) else canonical_json(observation)
        call = ToolCall(id=f"call_{turn}", name=kind, arguments=canonical_json({ARGUMENTS.get(kind, "action"): action}))
        valid = history.valid_action is None or history.valid_action[turn]
        steps += [
            Step(
                role="assistant",
                reasoning=history.thoughts[turn] if history.thoughts else None,
                tool_calls=(call,),
            ),
            Step(
                role="tool",
                content=text,
                tool_call_id=call.id,
                tool_name=kind,
                is_error=not valid or text.startswith("Error executing"),
            ),
        ]
    return tuple(steps)


def _tools(kind: str) -> str:
    argument = ARGUMENTS.get(kind, "action")
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    function = {"name": kind, "description": f"Run one {kind} {argument}.", "parameters": parameters}
    return canonical_json([{"type": "function", "function": function}])
