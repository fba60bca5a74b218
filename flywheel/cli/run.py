"""`flywheel run`: tasks x policies x samples, captured like production."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel import settings
from flywheel.cli import access, app
from flywheel.cli.environments import SplitName
from flywheel.cli.output import Json, emit, fail, progress, say, table
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from flywheel.rollout.batch_report import Report
    from flywheel.rollout.cells import Player

SCRIPTED = "flywheel"  # the provider of agents that are no models
ROWS = 32  # tasks that a model in this process plays at once


@app.command()
def run(
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="The workspace to record into.")],
    policy: Annotated[
        list[str],
        typer.Option(
            "--policy",
            help="Who plays: a policy's id, a folder or Hugging Face name of a model, openai:MODEL@BASE_URL, "
            "or a scripted agent: reference, empty, lazy, refuser, careful-refuser, desk-bot@2.0, ...",
        ),
    ],
    environment: Annotated[list[str] | None, typer.Option("--env", help="Environments (default: all).")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of each environment, or prompts of the file.")] = 100,
    prompts: Annotated[
        Path | None, typer.Option(help='Prompts instead of tasks: JSON Lines of {"prompt", "system", "id", "group"}.')
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Samples of each task by each policy.")] = 1,
    split: Annotated[SplitName, typer.Option(help="Whose templates to take; it is noted on every trajectory.")] = (
        SplitName.train
    ),
    seed: Annotated[int, typer.Option(help="Seed of the tasks: the same seed gives the same tasks.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature.")] = 1.0,
    max_turns: Annotated[int, typer.Option(min=1, help="Assistant steps after which an episode is partial.")] = 12,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes that go on at once.")] = 8,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Play what failed before again.")] = False,
    json: Json = False,
) -> None:
    """Play tasks by policies and record every episode with the checker's verdict.

    Run it again after a kill: exactly what is missing is played. Ends with 1 where every episode failed.

    Example: flywheel run -w trials --policy reference --policy desk-bot@2.0 --env desk --tasks 50 --n 2

    Example: flywheel run -w trials --policy openai:qwen3-8b@http://127.0.0.1:8000/v1 --split heldout --json
    """
    from flywheel import environments
    from flywheel.capture import workspaces
    from flywheel.rollout import batch
    from flywheel.rollout import prompts as files
    from flywheel.rollout.cells import Rules, Work

    home = access.allowed("capture", workspace)
    workspaces.require(home, workspace)
    if prompts is not None:
        places = [files.load(prompts)]
    else:
        places = [environments.get(name) for name in environment or environments.names()]
    works = [
        Work(environment=place, tasks=tuple(place.tasks(split.value, tasks, seed)), split=split.value, seed=seed)
        for place in places
    ]
    players = [_player(text) for text in policy]
    if prompts is not None and (scripted := [player.actor.name for player in players if player.provider == SCRIPTED]):
        raise FlywheelError(
            f"{', '.join(scripted)}: a scripted agent plays tasks alone; have prompts answered by a model, such as "
            "--policy openai:MODEL@http://127.0.0.1:8000/v1"
        )
    rules = Rules(samples=n, temperature=temperature, max_turns=max_turns)
    with progress() as display:
        bar = display.add_task("episodes", total=None)
        try:
            report = batch.run(
                home,
                workspace,
                works,
                players,
                rules,
                concurrency=concurrency,
                retry_failed=retry_failed,
                progress=lambda done, of: display.update(bar, completed=done, total=of),
            )
        except KeyboardInterrupt:
            say("stopped: what was played to its end is recorded; the same command again plays the rest")
            raise
    if json:
        emit(report)
    else:
        _print(report)
        say(f"next: flywheel settle -w {workspace}")
    if report.cells and len(report.failures) == report.cells:
        fail("every episode failed; when what ended them is put right: --retry-failed")
        raise typer.Exit(1)


def _player(text: str) -> Player:
    """The policy that a text names.

    Raises:
        FlywheelError: when there is none such.
    """
    from flywheel.environments.agents import BASELINES, REFERENCE
    from flywheel.environments.habits import HABITS, captured
    from flywheel.rollout.cells import Player

    if text.startswith("openai:"):
        from flywheel.rollout.endpoint_actor import EndpointActor

        model, _, url = text.removeprefix("openai:").rpartition("@")
        if not model:
            raise FlywheelError(f"{text!r} names no model; write it as openai:MODEL@http://127.0.0.1:8000/v1")
        actor = EndpointActor(model, url, key=settings.openai_key())
        return Player(actor=actor, model=model, provider=actor.provider)
    scripted = {agent.name: agent for agent in (REFERENCE, *BASELINES)}.get(text)
    name, _, version = text.partition("@")
    if name in HABITS:
        scripted = captured(name, version)
    if scripted is not None:
        return Player(actor=scripted, model=f"{scripted.name}-{scripted.version}", provider=SCRIPTED)
    from flywheel.rollout.transformers_actor import TransformersActor
    from flywheel.train.inputs import describe_base

    found = describe_base(access.policies("read", text), text)
    actor = TransformersActor(found["model"], name=text, version=found.get("digest", "")[:16])
    return Player(actor=actor, model=text, provider="transformers", rows=ROWS, shared=False)


def _print(report: Report) -> None:
    def rate(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = [
        (r.policy, r.version, r.cells, r.completed, r.partial, r.failed, rate(r.success), rate(r.credit))
        for r in report.policies
    ]
    columns = ["policy", "version", "episodes", "completed", "partial", "failed", "success", "credit"]
    title = f"{report.workspace}: {report.cells} episodes, {report.played} played now, {report.already_there} before"
    table(title, columns, rows)
    tools = [(name, t.count, t.success, t.failure, f"{t.error_rate:.3f}") for name, t in report.tools.items()]
    if tools:
        table("tools", ["tool", "count", "success", "failure", "error rate"], tools)
    for failure in report.failures[:5]:
        say(f"failed: {failure.task} by {failure.policy}: {failure.error}")
    if report.forgotten:
        say(f"{report.forgotten} episodes were erased on demand, and are not played again")
