"""Why a trajectory has its reward: every row of the ledger about it, how each counted, and the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes import verdict
from flywheel.outcomes.join import JOINED, joined, sql_moment
from flywheel.outcomes.policy import RewardPolicy, Signal
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

Row = dict[str, Any]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict and what made it.

    `verdict` is the row of `join.JOINED`. `ledger` has every row of the ledger about the trajectory in order of
    signal and arrival, with the columns of `schema.OUTCOMES` (without workspace and trajectory_id) and `counted`:
    `counted`, `conflict` or `outranked` as in `signals`, else why it did not: `arrived later`, `told twice`,
    `not in the policy`, `of a step`, `of the whole`, `another checker version`, `no number`, `revised` (by a later
    row of its voice), `older checker version`, or `another voice was later`.
    `silent` says of each signal that has not spoken until when it is waited for, and what is assumed then.
    `arithmetic` is one line.
    """

    workspace: str
    trajectory_id: str
    task_type: str
    arrived_at: datetime
    as_of: datetime
    policy: str
    verdict: Row
    ledger: list[Row]
    silent: list[Row]
    arithmetic: str


def explain(home: Home, workspace: str, policy: RewardPolicy, trajectory_id: str, as_of: datetime) -> Explanation:
    """Why a trajectory has the verdict it has as of a moment.

    Raises:
        FlywheelError: when no such trajectory had arrived by then, or `as_of` has no time zone.
    """
    only = pa.table({"trajectory_id": pa.array([trajectory_id], pa.string())})
    found = joined(home, workspace, policy, as_of, only=only).to_pylist()
    if not found:
        raise FlywheelError(f"no trajectory {trajectory_id!r} had arrived in {workspace!r} by {as_of.isoformat()}")
    row = found[0]
    captured, ledger = _told(home, workspace, policy, trajectory_id, as_of)
    roles = {heard["outcome_id"]: heard["role"] for heard in row["signals"]}
    for told in ledger:
        told["counted"] = told["counted"] or roles.get(told["id"], "another voice was later")
    return Explanation(
        workspace=workspace,
        trajectory_id=trajectory_id,
        task_type=captured["task_type"],
        arrived_at=captured["arrived_at"],
        as_of=as_of,
        policy=policy.name,
        verdict={name: row[name] for name in JOINED.names},
        ledger=ledger,
        silent=_silent(policy, captured, row, ledger),
        arithmetic=arithmetic(policy, row),
    )


def find(home: Home, beginning: str, workspaces: Sequence[str] | None = None) -> tuple[str, str]:
    """The workspace and the id of the trajectory whose id is or begins with `beginning`; all workspaces are asked
    where none are named.

    Raises:
        FlywheelError: when there is none, or there are several.
    """
    captured = " UNION ALL ".join(
        f"SELECT workspace, id FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, name)}"
        for name in ([None] if workspaces is None else workspaces)
    )
    with warehouse.connect() as connection:
        rows = connection.sql(
            f"""
            SELECT DISTINCT workspace, id FROM ({captured})
            WHERE starts_with(id, $beginning) ORDER BY id <> $beginning, workspace, id LIMIT 3
            """,
            params={"beginning": beginning},
        ).fetchall()
    exact = [row for row in rows if row[1] == beginning]
    found = exact or rows
    if len(found) == 1:
        return found[0]
    where = "any workspace" if workspaces is None else f"workspace {', '.join(map(repr, workspaces))}"
    if not found:
        raise FlywheelError(f"no trajectory of {where} has an id that begins with {beginning!r}")
    several = ", ".join(f"{id} in {of}" for of, id in found)
    raise FlywheelError(f"{beginning!r} begins several ids ({several}, ...); write more of it, or name its --workspace")


def arithmetic(policy: RewardPolicy, row: Row) -> str:
    """How a row of `join.JOINED` got its reward, or why it has none, in one line."""
    if row["state"] == "pending":
        return f"pending until {row['matures_at']:%Y-%m-%d %H:%M:%S} UTC"
    if row["state"] == "conflicting":
        told = [
            f"{heard['signal']} {_number(heard['value'])}" for heard in row["signals"] if heard["role"] == "conflict"
        ]
        return f"held back: voices disagree ({', '.join(told)}) about success at {_number(policy.success_at)}"
    if row["state"] == "expired":
        said = {heard["signal"] for heard in row["signals"]}
        missing = [s.name for s in policy.signals if s.required and s.silence is None and s.name not in said]
        return f"no verdict: {', '.join(missing or [s.name for s in policy.signals])} stayed silent"
    parts = [_part(policy, signal, row["signals"]) for signal in policy.signals]
    made = f"{policy.combine}({', '.join(part for part in parts if part)})"
    judged = f"{'success' if row['success'] else 'failure'}, at {_number(policy.success_at)}"
    return f"{made} = {_number(row['reward'])}: {judged}"


def _part(policy: RewardPolicy, signal: Signal, signals: list[Row]) -> str:
    """One signal's share in the arithmetic; empty where it has none."""
    mine = [heard for heard in signals if heard["signal"] == signal.name and heard["role"] in ("counted", "assumed")]
    if not mine:
        return ""
    values = ", ".join(_number(heard["value"]) for heard in mine)
    assumed = mine[0]["role"] == "assumed"
    part = f"{signal.name} {values}" if assumed or not signal.steps else f"{signal.name} {signal.steps} of [{values}]"
    weight = f" x {_number(signal.weight)}" if policy.combine == "mean" else ""
    return f"{part}{weight}{' assumed' if assumed else ''}"


def _silent(policy: RewardPolicy, captured: Row, row: Row, ledger: list[Row]) -> list[Row]:
    spoke = {told["signal"] for told in ledger if told["counted"] in ("counted", "conflict", "outranked")}
    top = max((signal.tier for signal in policy.signals if signal.name in spoke), default=None)
    return [
        {
            "signal": signal.name,
            "until": captured["arrived_at"]
            + timedelta(hours=signal.wait_by_task_type.get(captured["task_type"], signal.wait_hours)),
            "then": "nothing is assumed" if signal.silence is None else f"{_number(signal.silence)} is assumed",
            "matters": top is None or signal.tier >= top,
        }
        for signal in policy.signals
        if signal.name not in spoke
    ]


def _told(
    home: Home, workspace: str, policy: RewardPolicy, trajectory_id: str, as_of: datetime
) -> tuple[Row, list[Row]]:
    """What was captured, and the rows of the ledger with the reason why one did not count, if it is none of its own."""
    moment = sql_moment(as_of)
    kinds = ", ".join(
        f"({verdict.text(s.name)}, {str(s.steps is not None).lower()}, {str(s.newest_version).lower()}, "
        f"{list(s.checker_versions)}::VARCHAR[])"
        for s in policy.signals
    )
    with warehouse.connect() as connection:
        parameters = {"id": trajectory_id}
        captured = connection.sql(
            f"""
            SELECT task_type, arrived_at FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, workspace)}
            WHERE id = $id ORDER BY arrived_at, content_digest, source, source_line LIMIT 1
            """,
            params=parameters,
        ).to_arrow_table()
        ledger = connection.sql(
            f"""
            WITH policy(signal, steps, newest, versions) AS (VALUES {kinds}),
            told AS (
                SELECT o.*, CASE WHEN o.arrived_at > {moment} THEN 'arrived later'
                    WHEN row_number() OVER (PARTITION BY id ORDER BY o.arrived_at, comment) > 1 THEN 'told twice'
                    WHEN p.signal IS NULL THEN 'not in the policy'
                    WHEN step_index IS NOT NULL AND NOT steps THEN 'of a step'
                    WHEN step_index IS NULL AND steps THEN 'of the whole'
                    WHEN len(versions) > 0 AND NOT list_contains(versions, checker_version)
                        THEN 'another checker version'
                    WHEN NOT isfinite(value) THEN 'no number' END AS why, coalesce(newest, false) AS newest
                FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)} AS o LEFT JOIN policy AS p USING (signal)
                WHERE trajectory_id = $id
            ),
            ranked AS (
                SELECT *, row_number() OVER (PARTITION BY why IS NULL, signal, source, checker_version, step_index
                        ORDER BY observed_at DESC, arrived_at DESC, id DESC) AS revision,
                    dense_rank() OVER (PARTITION BY why IS NULL, signal, source
                        ORDER BY {verdict.VERSION} DESC, checker_version DESC) AS age
                FROM told
            )
            SELECT * EXCLUDE (workspace, trajectory_id, why, newest, revision, age),
                CASE WHEN why IS NOT NULL THEN why WHEN revision > 1 THEN 'revised'
                    WHEN newest AND age > 1 THEN 'older checker version' END AS counted
            FROM ranked ORDER BY signal, step_index NULLS FIRST, arrived_at, observed_at, id
            """,
            params=parameters,
        ).to_arrow_table()
    return captured.to_pylist()[0], ledger.to_pylist()


def _number(value: float) -> str:
    return f"{value:g}"
