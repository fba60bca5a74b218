"""`flywheel evaluate` and `flywheel report`: judge policies on held-out tasks, and read what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flywheel import settings
from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, progress, say, table

if TYPE_CHECKING:
    from flywheel.evaluate.report import Report


@app.command()
def evaluate(
    policies: Annotated[
        list[str], typer.Argument(metavar="POLICY...", help="Ids or model folders; the first is the candidate.")
    ],
    suite: Annotated[
        str, typer.Option(help="heldout (every environment), the name of one, or none (offline alone).")
    ] = "heldout",
    n: Annotated[int, typer.Option("--n", min=1, help="Tasks of each environment.")] = 500,
    temperature: Annotated[list[float] | None, typer.Option(min=0, help="Give several; 0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of tasks and samples; never one that chose anything.")] = None,
    corpus: Annotated[str, typer.Option(help="Audit this version's training rows (NAME@vN) for leakage.")] = "",
    offline: Annotated[str, typer.Option(help="Foretell the held-out rows of this version (NAME@vN).")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Held-out trajectories foretold offline, at most.")] = 50,
    context: Annotated[
        int | None,
        typer.Option(min=256, help="Tokens read at once offline; as the candidate was trained unless given."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where torch puts the model.")] = "cpu",
    json: Json = False,
) -> None:
    """Play policies, the champion and the baselines on held-out tasks, and write a report.

    All play the same tasks, so that differences are paired. What was played before is read back: killed and run
    again, it goes on where it was.

        flywheel evaluate dpo-4f1c --n 500 --temperature 0 --temperature 1 --corpus corpus@v1

        flywheel evaluate sft-09ab --suite none --offline airline@v1
    """
    from flywheel.cli.judging import Order, judge
    from flywheel.evaluate.suite import Suite, named

    home = settings.home()
    temperatures = tuple(dict.fromkeys(temperature or (0.0, 1.0)))
    if suite == "none" and not offline:
        raise typer.BadParameter("with --suite none there is nothing to do unless --offline names a corpus version")
    if 0.0 not in temperatures:
        raise typer.BadParameter("policies are compared greedy: give --temperature 0 too")
    access.corpora("admin", *filter(None, (corpus, offline)))
    access.policies("admin", *policies)
    if suite != "none":
        access.champion("admin")
    none = Suite(name="none", environments={}, temperatures=())
    asked = none if suite == "none" else named(suite, n, seed=seed, temperatures=temperatures)
    order = Order(
        policies=tuple(policies),
        suite=asked,
        corpus=corpus,
        offline=offline,
        rows=rows,
        context=context,
        device=device,
    )
    with progress() as display:
        report = judge(home, order, display)
    show(report, json=json)
    say(f"written to {home.reports / report.id}")


@app.command("report")
def report_command(
    id: Annotated[str, typer.Argument(help="A report's id, or latest.")] = "latest",
    json: Json = False,
) -> None:
    """Show a report: success with intervals, paired comparisons, slices, and each further table.

    flywheel report

    flywheel report latest --json
    """
    home = settings.home()
    report = access.report("read", id)
    show(report, json=json)
    say(f"with plots: {home.reports / report.id / 'report.md'}")


def show(report: Report, *, json: bool) -> None:
    """Print a report as one JSON document, or as tables."""
    from flywheel.evaluate.markdown import cell, tables

    if json:
        emit(report)
        return
    for title, rows in tables(report).items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table(title, columns, ([cell(row.get(c)) for c in columns] for row in rows))
