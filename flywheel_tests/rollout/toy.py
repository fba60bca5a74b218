"""A toy environment: a box is open or locked; one may look, push, and say so. And an actor that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flywheel.environments.protocol import Act, Score, Situation, Split, State, Task
from flywheel.schema import Step, ToolCall, stable_id


def call(name: str) -> Step:
    return Step(role="assistant", tool_calls=(ToolCall(id="call_0", name=name, arguments='{"box": "b1"}'),))


def say(text: str) -> Step:
    return Step(role="assistant", content=text)


def schema(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"box": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


class BoxState:
    def __init__(self, task: Task, seen: bool = False, pushed: bool = False, said: str | None = None) -> None:
        self.task, self.seen, self.pushed, self.said = task, seen, pushed, said

    @property
    def done(self) -> bool:
        return self.said is not None

    def step(self, action: Step) -> tuple[Step, ...]:
        if not action.tool_calls:
            self.said = (action.content or "").split()[0].strip(".,")
            return ()
        [made] = action.tool_calls
        if made.name == "look":
            self.seen = True
            return (Step(role="tool", content=self.task.secret, tool_call_id=made.id, tool_name="look"),)
        if made.name == "push" and not self.pushed:
            self.pushed = True
            return (Step(role="tool", content="pushed", tool_call_id=made.id, tool_name="push"),)
        return (Step(role="tool", content="no", tool_call_id=made.id, tool_name=made.name, is_error=True),)

    def fork(self) -> State:
        return BoxState(self.task, self.seen, self.pushed, self.said)

    def hash(self) -> str:
        return stable_id(self.task.id, repr((self.seen, self.pushed, self.said)))

    def score(self) -> Score:
        right = self.said == ("Done" if self.task.secret == "open" else "Sorry")
        success = self.done and right and self.pushed == (self.task.secret == "open")
        credit = 1.0 if success else 0.3 * self.seen
        return Score(success=success, credit=credit, checks={"right": right})


class Boxes:
    name = "boxes"
    checker_version = "1"
    tools = (schema("look"), schema("push"))

    def tasks(self, split: Split, n: int, seed: int) -> list[Task]:
        return [self.task(f"{split}-{seed}-{i}", "open" if i % 2 == 0 else "locked") for i in range(n)]

    def task(self, name: str, secret: str) -> Task:
        return Task(id=name, group="g", environment="boxes", system="You open boxes.", prompt="Open b1.", secret=secret)

    def reset(self, task: Task) -> State:
        return BoxState(task)


class Script:
    """Acts by a rule from situation to the `n` steps it would sample there."""

    name = "script"
    version = "1"

    def __init__(self, rule: Callable[[Situation, int], Sequence[Step]]) -> None:
        self.rule = rule

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        return [[Act(step=step, logprob=-1.0, tokens=1) for step in self.rule(s, n)] for s in situations]
