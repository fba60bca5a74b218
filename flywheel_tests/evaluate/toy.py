"""A toy environment and scripted actors: tasks numbered from 0, solved by calling `solve` and then speaking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from flywheel.environments.protocol import Act, Score, Situation, Split, State, Task
from flywheel.evaluate.results import RESULTS
from flywheel.schema import Step, ToolCall


def calling(name: str) -> Step:
    return Step(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments="{}"),))


class ToyState:
    def __init__(self, task: Task, made: tuple[str, ...] = (), done: bool = False) -> None:
        self.task, self.made, self.done = task, made, done

    def step(self, action: Step) -> tuple[Step, ...]:
        if not action.tool_calls:
            self.done = True
            return ()
        [call] = action.tool_calls
        self.made += (call.name,)
        wrong = call.name not in {"look", "solve"}
        return (Step(role="tool", content="error" if wrong else "fine", tool_name=call.name, is_error=wrong),)

    def fork(self) -> State:
        return ToyState(self.task, self.made, self.done)

    def hash(self) -> str:
        return repr((self.task.id, self.made, self.done))

    def score(self) -> Score:
        solved = "solve" in self.made and self.done
        return Score(success=solved, credit=1.0 if solved else 0.25 * ("look" in self.made), checks={"solved": solved})


class Toy:
    """Tasks `toy/GROUP/NUMBER` of four groups."""

    checker_version = "1"
    tools: tuple[dict[str, Any], ...] = ()
    toolbox = SimpleNamespace(reading=frozenset({"look"}))

    def __init__(self, name: str = "toy") -> None:
        self.name = name

    def tasks(self, split: Split, n: int, seed: int) -> list[Task]:
        return [
            Task(
                id=f"{self.name}/{i % 4}/{split}-{seed}-{i}",
                group=f"{self.name}/{i % 4}",
                environment=self.name,
                system="Solve it.",
                prompt=f"task {i}",
                secret=str(i),
            )
            for i in range(n)
        ]

    def reset(self, task: Task) -> State:
        return ToyState(task)


class Solver:
    """Solves the tasks that `can` says it can (by their number), speaks at once on others; counts what it was asked."""

    def __init__(self, name: str, can: Callable[[int], bool] = lambda i: True, *, looks: bool = True) -> None:
        self.name, self.version = name, "1"
        self.can, self.looks = can, looks
        self.asked = 0

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        return [[Act(step=self.next(s), tokens=3)] * n for s in situations]

    def next(self, situation: Situation) -> Step:
        self.asked += 1
        made = [c.name for s in situation.steps for c in s.tool_calls]
        plan = (["look"] if self.looks else []) + (["solve"] if self.can(int(situation.task.secret)) else [])
        left = [name for name in plan if name not in made]
        return calling(left[0]) if left else Step(role="assistant", content="Done.")


def rows(policy: str, successes: Sequence[bool], *, temperature: float = 0.0, environment: str = "toy") -> pa.Table:
    """Result rows in which task `i` of group `i % 8` ends as the sequence says."""
    return pa.Table.from_pylist(
        [
            {
                "policy": policy,
                "temperature": temperature,
                "seed": 0,
                "environment": environment,
                "task_id": f"{environment}/{i}",
                "task_group": f"{environment}/{i % 8}",
                "success": bool(success),
                "credit": float(success),
                "turns": 2 + i % 3,
                "tokens": 10,
                "end_state": "completed",
                "checks": "{}",
                "tool_calls": 1,
                "tool_errors": 0,
                "checked_first": None,
                "cpu_seconds": 0.0,
            }
            for i, success in enumerate(successes)
        ],
        schema=RESULTS,
    )
