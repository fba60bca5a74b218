"""Offline evaluation: how well a policy foretells held-out captures, for logs that have no environment."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.evaluate.statistics import Interval, wilson
from flywheel.schema import FlywheelError, Step, canonical_json

# What a position holds: the tools called, in order, with their arguments; none where the assistant spoke.
Action = tuple[tuple[str, str], ...]
NOTHING = "(speaks)"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """An assistant's step to foretell: where it is, what was done, and the steps before it."""

    trajectory_id: str
    step_index: int
    action: Action
    before: tuple[Step, ...]
    tools: str


class Offline(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. `nll` is in nats for each assistant token, teacher-forced.

    `action_accuracy`: right tools in the right order, speaking being an action, over `positions`. `tool_accuracy`
    and `argument_accuracy` (equal JSON, and right tools) are over the `calls` positions at which a tool was called.
    `commonest` is what always naming the commonest action would score. Intervals are Wilson's.
    """

    trajectories: int
    tokens: int
    nll: float
    perplexity: float
    positions: int
    action_accuracy: float
    action_interval: Interval
    commonest: float
    calls: int
    tool_accuracy: float
    tool_interval: Interval
    argument_accuracy: float
    argument_interval: Interval
    by_action: list[dict[str, Any]]


def evaluate(
    model: Path,
    rows: pa.Table,
    *,
    max_rows: int = 50,
    max_positions: int = 200,
    context: int = 1024,
    max_tokens: int = 128,
    batch: int = 16,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Offline:
    """Evaluate a Hugging Face model folder on corpus rows (columns id, steps, tools) of a held-out split.

    More than `max_rows` trajectories or `max_positions` steps are sampled by the hash of their ids: the same ones
    for every policy, on every machine. `context` is in tokens: likelihoods are taken over the windows that training
    would make, and a prompt that is longer loses steps between its opening and its latest ones. `progress` is told
    the trajectories and positions done.

    Raises:
        FlywheelError: when the model cannot be loaded, or the rows hold no assistant's step.
    """
    from flywheel.evaluate.causal import CausalModel
    from flywheel.train.examples import examples

    causal = CausalModel(model, device)
    rows = sample(rows, max_rows)
    chosen = positions(rows, max_positions)
    if not chosen:
        raise FlywheelError("the held-out rows hold no assistant's step: nothing to evaluate offline")
    # Pieces of like length share a batch, so that little of it is padding.
    windows = sorted(examples(causal.tokenizer, rows, context), key=lambda e: len(e.input_ids))
    total, tokens = 0.0, 0
    for start in range(0, len(windows), batch):
        piece = windows[start : start + batch]
        nats, count = causal.negative_log_likelihood(piece)
        total, tokens = total + nats, tokens + count
        if progress:
            progress((start + len(piece)) * len(rows) // len(windows))
    prompts = [causal.prompt(p.before, p.tools, max(1, context - max_tokens)) for p in chosen]
    foretold: list[Action] = [()] * len(chosen)
    order = sorted(range(len(chosen)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch):
        piece = order[start : start + batch]
        for i, step in zip(piece, causal.write([prompts[i] for i in piece], max_tokens), strict=True):
            foretold[i] = action(step)
        if progress:
            progress(len(rows) + start + len(piece))
    return summary([p.action for p in chosen], foretold, trajectories=len(rows), tokens=tokens, nll=total / tokens)


def sample(rows: pa.Table, most: int) -> pa.Table:
    """At most so many rows, chosen by the hash of their ids, in the order of the table."""
    ids = rows["id"].to_pylist()
    chosen = sorted(range(len(ids)), key=lambda i: _rank(ids[i]))[:most]
    return rows.take(pa.array(sorted(chosen), pa.int64()))


def positions(rows: pa.Table, most: int) -> list[Position]:
    """At most so many assistant steps of the rows, chosen by hash, each with the steps before it."""
    found: list[Position] = []
    for row in rows.select(["id", "steps", "tools"]).to_pylist():
        steps = msgspec.convert(row["steps"], tuple[Step, ...])
        found += [
            Position(trajectory_id=row["id"], step_index=i, action=action(s), before=steps[:i], tools=row["tools"])
            for i, s in enumerate(steps)
            # A chat template needs something to answer.
            if s.role == "assistant" and any(b.role == "user" for b in steps[:i])
        ]
    return sorted(found, key=lambda p: _rank(f"{p.trajectory_id} {p.step_index}"))[:most]


def action(step: Step) -> Action:
    """What a step does: its calls as (tool, canonical arguments); arguments that are no JSON stay as written."""
    return tuple((call.name, _canonical(call.arguments)) for call in step.tool_calls)


def _canonical(arguments: str) -> str:
    try:
        return canonical_json(json.loads(arguments))
    except (ValueError, RecursionError):
        return arguments


def _rank(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def summary(
    actual: Sequence[Action], foretold: Sequence[Action], *, trajectories: int, tokens: int, nll: float
) -> Offline:
    """Count what was foretold rightly, position by position."""
    tools = [tuple(name for name, _ in a) for a in actual]
    right = [t == tuple(name for name, _ in f) for t, f in zip(tools, foretold, strict=True)]
    calling = [i for i, t in enumerate(tools) if t]
    named = sum(right[i] for i in calling)
    exact = sum(actual[i] == foretold[i] for i in calling)
    kinds = Counter(tools)
    return Offline(
        trajectories=trajectories,
        tokens=tokens,
        nll=nll,
        perplexity=math.exp(min(nll, 700.0)),
        positions=len(tools),
        action_accuracy=_share(sum(right), len(tools)),
        action_interval=wilson(sum(right), len(tools)),
        commonest=_share(max(kinds.values(), default=0), len(tools)),
        calls=len(calling),
        tool_accuracy=_share(named, len(calling)),
        tool_interval=wilson(named, len(calling)),
        argument_accuracy=_share(exact, len(calling)),
        argument_interval=wilson(exact, len(calling)),
        by_action=[
            {
                "action": " + ".join(kind) or NOTHING,
                "positions": count,
                "right tool": sum(r for t, r in zip(tools, right, strict=True) if t == kind),
                "right arguments": sum(actual[i] == foretold[i] for i in calling if tools[i] == kind),
            }
            for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ],
    )


def row(policy: str, found: Offline) -> dict[str, Any]:
    """The measures of a policy as one row of a report's table."""
    return {
        "policy": policy,
        "trajectories": found.trajectories,
        "tokens": found.tokens,
        "nll per token": found.nll,
        "positions": found.positions,
        "right action": found.action_accuracy,
        "commonest action": found.commonest,
        "calls": found.calls,
        "right tool": found.tool_accuracy,
        "right arguments": found.argument_accuracy,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
