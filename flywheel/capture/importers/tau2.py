"""tau2 results: simulations with costs, times and check results (sierra-research/tau2-bench, `data_model`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from flywheel.capture.importers import chat, documents, halves, records
from flywheel.capture.importers.calls import Calls
from flywheel.capture.importers.records import Bad, Made, Origin, Record, utc
from flywheel.schema import EndState, FlywheelError, Step, canonical_json

NAME = "tau2"
END_STATES: dict[str, EndState] = {"user_stop": "completed", "agent_stop": "completed", "max_steps": "partial"}


class Agent(msgspec.Struct):
    """The agent that played: `llm` is provider/model."""

    implementation: str = ""
    llm: str | None = None


class World(msgspec.Struct):
    """The environment: its policy is the agent's system prompt."""

    domain_name: str
    policy: str | None = None
    tool_defs: Any = None


class Info(msgspec.Struct):
    """What all simulations of a file share."""

    environment_info: World
    agent_info: Agent
    git_commit: str = ""


class Call(msgspec.Struct):
    """A call; `requestor` tells whether the agent or the simulated user made it."""

    name: str
    arguments: dict[str, Any] | str
    id: str | None = None
    requestor: str = "assistant"


class Usage(msgspec.Struct):
    """Tokens of one completion."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Message(msgspec.Struct):
    """A message; for role `tool`, `id` is the call that it answers."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    id: str | None = None
    error: bool | None = None
    requestor: str | None = None
    timestamp: str | None = None
    cost: float | None = None
    usage: Usage | None = None
    raw_data: dict[str, Any] | None = None


class Checks(msgspec.Struct):
    """The verdicts of `reward_info`; the reference actions and answers beside each are not read."""

    class Database(msgspec.Struct):
        db_reward: float | None = None

    class Action(msgspec.Struct):
        action_reward: float

    class Met(msgspec.Struct):
        met: bool

    reward: float | None = None
    db_check: Database | None = None
    action_checks: list[Action] | None = None
    env_assertions: list[Met] | None = None
    nl_assertions: list[Met] | None = None
    communicate_checks: list[Met] | None = None

    def signals(self) -> dict[str, float | None]:
        """The reward, and each kind of check as the share that passed."""
        met = {k: getattr(self, k) for k in ("env_assertions", "nl_assertions", "communicate_checks")}
        return {
            "reward": self.reward,
            "db_check": self.db_check.db_reward if self.db_check else None,
            "action_checks": _mean([check.action_reward for check in self.action_checks or ()]),
            **{kind: _mean([float(check.met) for check in checks or ()]) for kind, checks in met.items()},
        }


class Simulation(msgspec.Struct):
    """One trial of one task."""

    task_id: str | int
    messages: list[Message]
    id: str = ""
    trial: int | None = None
    seed: int | None = None
    start_time: str | None = None
    end_time: str | None = None
    timestamp: str | None = None
    termination_reason: str | None = None
    reward_info: Checks | None = None


def detect(head: bytes) -> bool:
    """Whether a file that begins like this holds tau2 results."""
    keys = (b'"simulations"', b'"user_info"', b'"agent_info"', b'"environment_info"')
    return head.lstrip().startswith(b"{") and sum(key in head for key in keys) >= 2


def read(path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]:
    """The simulations of a file. The tasks in it, with their reference answers, are not read."""
    with documents.opened(path) as data:
        top = {piece.key: piece for piece in documents.elements(data)}
        if "info" not in top or "simulations" not in top:
            raise FlywheelError(f"{path} is not a whole tau2 file: it has no `info` or no `simulations`")
        try:
            info = halves.decoded(top["info"].data, type=Info)
        except (ValueError, RecursionError) as error:
            raise FlywheelError(f"{path}: the `info` of this tau2 file cannot be read: {error}") from error
        yield from records.read(
            documents.elements(data, top["simulations"].start),
            lambda raw, origin: _make(raw, origin, info),
            format=NAME,
            path=path,
            workspace=workspace,
            arrived_at=arrived_at,
        )


def _make(raw: Any, origin: Origin, info: Info) -> Made:
    run = msgspec.convert(raw, Simulation)
    domain, policy = info.environment_info.domain_name, info.environment_info.policy
    provider, _, model = (info.agent_info.llm or "").rpartition("/")
    task = f"{NAME}-{domain}-{run.task_id}"
    trajectory = origin.trajectory(
        also=policy or "",
        task_id=task,
        task_group=task,
        task_type=f"{NAME}/{domain}",
        agent=info.agent_info.implementation,
        agent_version=info.git_commit,
        model=model,
        provider=provider,
        tools=canonical_json(info.environment_info.tool_defs or []),
        end_state=END_STATES.get(run.termination_reason or "", "failed"),
        started_at=utc(run.start_time),
        metadata={
            "simulation": run.id,
            "trial": run.trial,
            "seed": run.seed,
            "termination_reason": run.termination_reason,
        },
        steps=_steps(run.messages, policy),
    )
    checks = run.reward_info.signals() if run.reward_info else {}
    observed = utc(run.end_time or run.timestamp)
    return trajectory, [
        origin.outcome(trajectory, signal, value, checker_version=info.git_commit, observed_at=observed)
        for signal, value in checks.items()
        if value is not None
    ]


def _steps(messages: Sequence[Message], policy: str | None) -> tuple[Step, ...]:
    """The policy as the system step, unless the messages have their own, and the messages."""
    steps: list[Step] = []
    if policy and (not messages or messages[0].role != "system"):
        steps.append(Step(role="system", content=policy))
    calls = Calls()
    for message in messages:
        raw = message.raw_data or {}
        about = {
            "cost": message.cost,
            "finish_reason": raw.get("finish_reason"),
            # The simulated user may call tools too; only then it is said whose call it was.
            "requestor": message.requestor if message.requestor != "assistant" else None,
        }
        tool = message.role == "tool"
        call_id, tool_name = calls.answered(message.id, None) if tool else (None, None)
        steps.append(
            Step(
                role=message.role,
                content=message.content,
                reasoning=message.reasoning_content or _thought(raw.get("message")),
                tool_calls=tuple(calls.made(c.id, c.name, chat.as_text(c.arguments)) for c in message.tool_calls or ()),
                tool_call_id=call_id,
                tool_name=tool_name,
                is_error=message.error if tool else None,
                prompt_tokens=message.usage.prompt_tokens if message.usage else None,
                completion_tokens=message.usage.completion_tokens if message.usage else None,
                at=utc(message.timestamp),
                metadata=canonical_json({k: v for k, v in about.items() if v is not None}),
            )
        )
    return tuple(steps)


def _thought(message: Any) -> str | None:
    thought = message.get("reasoning_content") if isinstance(message, dict) else None
    return thought if isinstance(thought, str) else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
