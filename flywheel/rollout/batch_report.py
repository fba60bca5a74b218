"""What a batch run tells: episodes by how they ended, successes, and calls of tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from flywheel.rollout.cells import Cell, Known, Player


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


def report(workspace: str, cells: Sequence[Cell], known: Mapping[str, Known], played: int, forgotten: int) -> Report:
    """The report on all cells of a plan."""
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
