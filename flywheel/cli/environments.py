"""`flywheel environments`: what there is to act in, its proof, and its tasks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from flywheel.cli import app
from flywheel.cli.output import Json, emit, progress, say, table

commands = typer.Typer(no_args_is_help=True, help="Environments: tasks to act on, with checkers that prove themselves.")
app.add_typer(commands, name="environments")


class SplitName(StrEnum):
    """Which templates tasks come from."""

    train = "train"
    heldout = "heldout"


Name = Annotated[str, typer.Argument(help="An environment, such as desk (see `flywheel environments list`).")]
Seed = Annotated[int, typer.Option(help="Seed of the tasks: the same seed gives the same tasks.")]


@commands.command("list")
def list_environments(json: Json = False) -> None:
    """List the environments that ship: their tools, templates by split, and captured agents.

    Example: flywheel environments list
    """
    from flywheel import environments
    from flywheel.environments.habits import captured_agents

    rows = [
        {
            "name": name,
            "checker_version": place.checker_version,
            "tools": sorted(place.toolbox.parameters),
            "templates": {split: len(templates) for split, templates in place.templates.items()},
            "late_signal": place.late_signal,
            "agents": [f"{agent.name} {agent.version}" for agent in captured_agents(name)],
        }
        for name in environments.names()
        for place in [environments.get(name)]
    ]
    if json:
        emit(rows)
        return
    table(
        "Environments",
        ("name", "tools", "train templates", "held-out templates", "late signal", "captured agents"),
        (
            (
                row["name"],
                len(row["tools"]),
                row["templates"]["train"],
                row["templates"]["heldout"],
                row["late_signal"],
                ", ".join(row["agents"]),
            )
            for row in rows
        ),
    )


@commands.command()
def prove(
    name: Name,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of tasks to play by each agent.")] = 500,
    seed: Seed = 0,
    split: Annotated[SplitName, typer.Option(help="Whose templates to take.")] = SplitName.heldout,
    json: Json = False,
) -> None:
    """Prove a checker: the reference scores 1, the empty and the lazy agent low, and states fork true.

    Ends with exit code 1 where the proof does not hold.

    Example: flywheel environments prove desk --n 500 --split heldout
    """
    from flywheel import environments
    from flywheel.environments.proof import prove as prove_environment

    place = environments.get(name)
    with progress() as display:
        bar = display.add_task(f"proving {name}", total=n)
        proof = prove_environment(place, n, seed, split.value, lambda done: display.update(bar, completed=done))
    if json:
        emit({"holds": proof.holds, "proof": proof})
    else:
        rates = {"reference": proof.reference, **proof.baselines}
        table(
            f"{name}, {split.value}: success of {n} tasks",
            ("agent", "success"),
            ((k, f"{v:.3f}") for k, v in rates.items()),
        )
        say(f"{proof.forks} forks, {proof.forks_failed} false; {proof.replays_failed} replays differ")
        say("the proof holds" if proof.holds else "the proof does NOT hold")
    if not proof.holds:
        raise typer.Exit(1)


@commands.command("show-task")
def show_task(
    name: Name,
    index: Annotated[int, typer.Option(min=0, help="Which task of the seed's row.")] = 0,
    seed: Seed = 0,
    split: Annotated[SplitName, typer.Option(help="Whose templates to take.")] = SplitName.train,
    json: Json = False,
) -> None:
    """Show a task: what the agent is told, what it is not told, and how the reference solves it.

    Example: flywheel environments show-task files --index 3
    """
    from flywheel import environments
    from flywheel.environments.agents import REFERENCE
    from flywheel.environments.proof import played

    place = environments.get(name)
    task = place.tasks(split.value, index + 1, seed)[index]
    state, steps = played(place, task, REFERENCE)
    if json:
        emit({"task": task, "reference": steps, "score": state.score()})
        return
    table(task.id, ("told", "text"), (("system", task.system), ("user", task.prompt), ("(secret)", task.secret)))
    table(
        f"The reference: credit {state.score().credit}",
        ("role", "step"),
        (
            (step.role, " ".join([step.content or "", *(f"{c.name} {c.arguments}" for c in step.tool_calls)]).strip())
            for step in steps[2:]
        ),
    )
