"""`flywheel gate`, `champion`, `history` and `rollback`: which policy serves, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel import settings
from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from flywheel.release.history import Event


@app.command()
def gate(
    id: Annotated[str, typer.Argument(help="A report's id, or latest.")] = "latest",
    candidate: Annotated[str, typer.Option(help="Judge this one of the report's policies.")] = "",
    champion: Annotated[str, typer.Option(help="Judge it against this one of the report's policies.")] = "",
    minimum_tasks: Annotated[int, typer.Option(min=1, help="Fewer tasks cannot be judged.")] = 500,
    allow_first: Annotated[bool, typer.Option("--allow-first", help="A first champion need beat no baseline.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Write the verdict into the registry.")] = False,
    json: Json = False,
) -> None:
    """Decide from a report whether its candidate may serve, with a reason for each rule.

    Ends with exit code 1 when the candidate is refused.

        flywheel gate latest

        flywheel gate latest --release

        flywheel gate latest --candidate sft-09ab --champion dpo-4f1c
    """
    from flywheel.evaluate import report as reports
    from flywheel.release import descent, registry
    from flywheel.release.gate import Rules, decide

    home = settings.home()
    report = access.report("admin" if release else "read", id)
    if release:
        access.champion("admin")
    chosen = report.entrant(candidate or report.candidate)
    other = champion or report.champion
    against = report.entrant(other) if other else None
    if release and not chosen.policy_id:
        raise FlywheelError(f"{chosen.name} is a scripted agent: only a trained policy can serve")
    verdict = decide(
        reports.results_of(home, report.id),
        chosen.name,
        against.name if against else None,
        leaks=report.leaks,
        rules=Rules(minimum_tasks=minimum_tasks, allow_first=allow_first),
    )
    if release:
        registry.record(
            home,
            verdict,
            policy_id=chosen.policy_id,
            digest=chosen.digest,
            report=report.id,
            champion_id=against.policy_id if against else None,
        )
    if json:
        emit({"report": report.id, "blocked": verdict.blocked, "verdict": verdict})
    else:
        title = f"{'promote' if verdict.promote else 'keep the champion'}: {chosen.name}, report {report.id}"
        table(title, ("rule", "passed", "detail"), ((r.rule, r.passed, r.detail) for r in verdict.reasons))
        for mark in descent.marks(home.policies / chosen.policy_id) if chosen.policy_id else ():
            say(f"{chosen.policy_id} {mark}")
    if not verdict.promote:
        raise typer.Exit(1)


@app.command()
def champion(json: Json = False) -> None:
    """Show the policy that serves, and the report by which it came to.

    Example: flywheel champion --json
    """
    from flywheel.release import descent, registry

    home = settings.home()
    access.champion("read")
    event = registry.champion(home)
    if event is None:
        raise FlywheelError("no champion yet: run `flywheel demo`, or `flywheel gate latest --release` on a report")
    model = registry.verify(home, event).model
    erased = descent.marks(home.policies / event.policy_id)
    if json:
        told = {"policy_id": event.policy_id, "model": model, "digest": event.digest, "promotion": event}
        emit(told | {"erased": erased})
        return
    table("Champion", ("policy", "since", "by report", "model"), [(event.policy_id, event.at, event.report, model)])
    for mark in erased:
        say(f"it {mark}; train another without them")


@app.command()
def rollback(json: Json = False) -> None:
    """Let the previous champion serve again.

    Example: flywheel rollback
    """
    from flywheel.release import registry

    access.champion("admin")
    event = registry.rollback(settings.home())
    if json:
        emit(event)
        return
    say(f"{event.policy_id} serves again; {event.previous} no longer does")


@app.command()
def history(json: Json = False) -> None:
    """List every promotion, refusal and rollback, oldest first.

    Example: flywheel history
    """
    found = access.releases("read")
    if json:
        emit(found)
        return
    table("Releases", ("at", "what", "policy", "before", "report", "why"), (_row(event) for event in found))


def _row(event: Event) -> tuple[Any, ...]:
    why = next((f"{r.rule}: {r.detail}" for r in event.reasons if not r.passed), "")
    return event.at, event.kind, event.policy_id, event.previous, event.report, why
