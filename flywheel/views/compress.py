"""Compression: a long trajectory brought to a budget of tokens; one marker stands for steps in its middle."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from flywheel.schema import Step, Trajectory, canonical_json
from flywheel.views.chatml import said
from flywheel.views.window import groups

# How many tokens each of some texts takes.
Count = Callable[[Sequence[str]], list[int]]
# A text in the place of some steps, of at most so many tokens.
Summarise = Callable[[Sequence[Step], int], str]

# What Hermes' agents write before a summary, so that readers know the turn for what it is.
OPENS = "[CONTEXT SUMMARY]: "
PROTECTED_LAST = 4
# A summary may take this share of the budget: one in so many.
SUMMARY_SHARE = 20
# Tokens around each turn: who speaks, and where it ends.
TURN = 4


class Compression(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was left out of a trajectory: its steps from `first` to before `end`, the SHA-256 of each, and the tokens.

    `by` is what stands in their place; `error` why a summary does not. `over` tells that what is protected alone is
    longer than `max_tokens`.
    """

    trajectory_id: str
    first: int
    end: int
    step_sha256: tuple[str, ...]
    tokens: int
    tokens_left: int
    max_tokens: int
    by: Literal["marker", "summary"] = "marker"
    error: str = ""
    over: bool = False


def compressed(
    of: Trajectory,
    max_tokens: int,
    count: Count,
    summarise: Summarise | None = None,
    *,
    last: int = PROTECTED_LAST,
) -> tuple[Trajectory, Compression | None]:
    """The trajectory with a marker for steps in its middle, and what was left out; as it is where it is short enough.

    The first step of each role and the `last` ones are protected, and a call stays with its results. Of the longest
    run between those the oldest are left out, as few as will do. A summary that fails, is blank or is longer than
    its share of the budget is replaced by the marker. After Hermes' `trajectory_compressor.py`, which parts calls from
    results, counts no tools, and changes the system prompt.
    """
    steps = of.steps
    offered, *sizes = (size + TURN for size in count([of.tools, *(text(step) for step in steps)]))
    total = offered + sum(sizes)
    if total <= max_tokens:
        return of, None
    most = max_tokens // SUMMARY_SHARE
    room = most if summarise else count([_marker(len(steps))])[0]
    region = _region(steps, sizes, last, total - max_tokens + room + TURN)
    if region is None or sum(sizes[region.start : region.stop]) <= room + TURN:
        return of, _told(of, range(0), total, total, max_tokens)
    left_out = steps[region.start : region.stop]
    put, error = _summary(left_out, summarise, most, count) if summarise else (None, "")
    marker = Step(role="user", content=OPENS + put if put else _marker(len(region)))
    kept = (*steps[: region.start], marker, *steps[region.stop :])
    left = total - sum(sizes[region.start : region.stop]) + count([text(marker)])[0] + TURN
    return (
        msgspec.structs.replace(of, steps=kept),
        _told(of, region, total, left, max_tokens, by="summary" if put else "marker", error=error),
    )


def text(step: Step) -> str:
    """What a step says, as its tokens are counted."""
    return said(step) if step.role == "assistant" else step.content or ""


def characters(texts: Sequence[str]) -> list[int]:
    """About how many tokens texts take: one for four characters."""
    return [math.ceil(len(text) / 4) for text in texts]


def _marker(steps: int) -> str:
    return f"{OPENS}{steps} earlier step{'s were' if steps > 1 else ' was'} left out here."


def _region(steps: Sequence[Step], sizes: Sequence[int], last: int, need: int) -> range | None:
    """The steps to leave out: the oldest of the longest run that is not protected, until they are enough."""
    first = {role: next((i for i, step in enumerate(steps) if step.role == role), None) for role in _roles(steps)}
    protected = {*first.values(), *range(max(len(steps) - last, 0), len(steps))}
    runs: list[list[tuple[int, int]]] = [[]]
    for start, end in groups(steps, 0):
        if protected.isdisjoint(range(start, end)):
            runs[-1].append((start, end))
        else:
            runs.append([])
    run = max(runs, key=lambda run: sum(sum(sizes[start:end]) for start, end in run))
    if not run:
        return None
    taken = 0
    for start, end in run:
        taken += sum(sizes[start:end])
        if taken >= need:
            return range(run[0][0], end)
    return range(run[0][0], run[-1][1])


def _roles(steps: Sequence[Step]) -> list[str]:
    return list(dict.fromkeys(step.role for step in steps))


def _summary(steps: Sequence[Step], summarise: Summarise, most: int, count: Count) -> tuple[str | None, str]:
    """A summary, or None and why there is none. Whatever a plug-in raises must not cost the row."""
    try:
        put = summarise(steps, most)
        size = count([OPENS + put])[0] if put.strip() else 0
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    if not size:
        return None, "the summary is blank"
    return (put, "") if size <= most else (None, f"the summary has {size} tokens, and {most} are allowed")


def _told(
    of: Trajectory,
    region: range,
    total: int,
    left: int,
    max_tokens: int,
    by: Literal["marker", "summary"] = "marker",
    error: str = "",
) -> Compression:
    digests = (hashlib.sha256(canonical_json(msgspec.to_builtins(of.steps[i])).encode()).hexdigest() for i in region)
    return Compression(
        trajectory_id=of.id,
        first=region.start,
        end=region.stop,
        step_sha256=tuple(digests),
        tokens=total,
        tokens_left=left,
        max_tokens=max_tokens,
        by=by,
        error=error,
        over=left > max_tokens,
    )
