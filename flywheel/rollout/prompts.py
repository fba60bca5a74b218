"""Prompts from a file: tasks without an environment, whose answers nobody checks."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flywheel.environments.protocol import Score, Split, State, Task
from flywheel.schema import FlywheelError, Step, stable_id


class Prompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a file of prompts; it is named by its content, and a group of its own, unless it says otherwise."""

    prompt: str
    system: str = ""
    id: str = ""
    group: str = ""


class Prompts:
    """An environment of prompts: no tools, no checker; an episode is one answer."""

    name = "prompts"
    checker_version = ""
    tools = ()

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        self._tasks = tasks

    def tasks(self, split: Split, n: int, seed: int) -> list[Task]:
        """The first `n`: a file knows no splits, and no chance."""
        return list(self._tasks[:n])

    def reset(self, task: Task) -> State:
        """The state before the answer."""
        return _Asked(task)


class _Asked:
    def __init__(self, task: Task, answered: str | None = None) -> None:
        self.task, self._answered = task, answered

    @property
    def done(self) -> bool:
        return self._answered is not None

    def step(self, action: Step) -> tuple[Step, ...]:
        if not action.tool_calls:
            self._answered = action.content or ""
        return tuple(
            Step(role="tool", content="there are no tools", tool_call_id=call.id, tool_name=call.name, is_error=True)
            for call in action.tool_calls
        )

    def fork(self) -> State:
        return _Asked(self.task, self._answered)

    def hash(self) -> str:
        return stable_id(self.task.id, self._answered or "", str(self.done))

    def score(self) -> Score:
        return Score(success=False, credit=0.0, checks={})


def load(path: Path) -> Prompts:
    """The prompts of a JSON Lines file.

    Raises:
        FlywheelError: when it cannot be read, with the line that is wrong.
    """
    try:
        lines = [(number, line) for number, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
    except OSError as error:
        raise FlywheelError(f"{path} cannot be read: {error.strerror}") from error
    tasks: list[Task] = []
    for number, line in lines:
        try:
            prompt = msgspec.json.decode(line, type=Prompt)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FlywheelError(f"{path}, line {number}, is no prompt: {error}") from error
        id = prompt.id or stable_id("prompt", prompt.system, prompt.prompt)
        tasks.append(
            Task(
                id=id,
                group=prompt.group or id,
                environment=Prompts.name,
                system=prompt.system,
                prompt=prompt.prompt,
                secret="",
            )
        )
    return Prompts(tuple(tasks))
