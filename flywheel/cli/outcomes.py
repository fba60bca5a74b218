"""`flywheel outcomes`: what is known of each trajectory, and what a reward policy makes of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli import app
from flywheel.cli.output import Json, emit, table
from flywheel.outcomes import policy as policies
from flywheel.schema import FlywheelError
from flywheel.settings import home

outcomes_app = typer.Typer(help="Outcomes: the ledger, and the verdicts it gives.", no_args_is_help=True)
app.add_typer(outcomes_app, name="outcomes")

MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"]


@outcomes_app.command("show")
def show(
    workspace: Annotated[str, typer.Argument(help="The workspace to read.")],
    as_of: Annotated[
        datetime | None, typer.Option(help="What was known at this moment (UTC); now unless given.", formats=MOMENTS)
    ] = None,
    trajectory: Annotated[str | None, typer.Option(help="One trajectory: its verdict and every fact about it.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="A reward policy (TOML or JSON); the wheel's own for its workspace, else the signal 'reward'."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the verdicts on a workspace's trajectories as of a moment.

    Example: flywheel outcomes show production

    Example: flywheel outcomes show production --as-of 2026-11-09 --json

    Example: flywheel outcomes show airline --trajectory 5f2c0d6b
    """
    from flywheel.capture import workspaces
    from flywheel.outcomes.join import joined
    from flywheel.outcomes.ledger import facts

    workspaces.require(home(), workspace)
    moment = datetime.now(UTC) if as_of is None else as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    chosen = policies.load(policy) if policy else _policy_of(workspace)
    verdicts = joined(home(), workspace, chosen, moment).to_pylist()
    if trajectory is not None:
        verdicts = [row for row in verdicts if row["trajectory_id"] == trajectory]
        if not verdicts:
            raise FlywheelError(f"no trajectory {trajectory!r} had arrived in {workspace!r} by {moment.isoformat()}")
    known = facts(home(), workspace, as_of=moment, trajectory_id=trajectory).to_pylist() if trajectory else []
    states = Counter(row["state"] for row in verdicts)
    if json:
        document: dict[str, Any] = {
            "workspace": workspace,
            "as_of": moment,
            "policy": {"hash": chosen.hash, "config": chosen},
            "trajectories": len(verdicts),
            "states": dict(sorted(states.items())),
            "successes": sum(bool(row["success"]) for row in verdicts),
            "verdicts": verdicts,
        }
        emit(document | ({"facts": known} if trajectory else {}))
        return
    _print(workspace, moment, chosen.name, verdicts, states)
    if trajectory:
        columns = ["signal", "value", "step_index", "source", "checker_version", "observed_at", "arrived_at", "comment"]
        table("facts", columns, [[fact[column] for column in columns] for fact in known])


def _print(workspace: str, moment: datetime, name: str, verdicts: list[dict[str, Any]], states: Counter[str]) -> None:
    rows = []
    for state, count in sorted(states.items()):
        rewards = [row["reward"] for row in verdicts if row["state"] == state and row["reward"] is not None]
        successes = sum(bool(row["success"]) for row in verdicts if row["state"] == state)
        rows.append(
            (state, count, successes if rewards else "", f"{sum(rewards) / len(rewards):.3f}" if rewards else "")
        )
    title = f"{workspace} as of {moment:%Y-%m-%d %H:%M:%S} UTC, policy {name}"
    table(title, ["state", "trajectories", "successes", "mean reward"], rows)


def _policy_of(workspace: str) -> policies.RewardPolicy:
    """The wheel's reward policy in its own workspace, the default one in any other."""
    from flywheel.wheel.config import load

    config = load(home())
    if workspace != config.workspace:
        return policies.RewardPolicy()
    from flywheel.wheel.versioning import spec

    return spec(config).reward_policy
