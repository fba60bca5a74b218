"""`flywheel corpus compare`: two versions side by side, and what the same recipe learns from each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flywheel.cli import access
from flywheel.cli.corpus import corpus_app
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.settings import home


@corpus_app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="A version: NAME@v3, NAME@BRANCH or NAME@TAG.")],
    second: Annotated[str, typer.Argument(help="The version that it is compared with.")],
    train: Annotated[
        bool, typer.Option("--train", help="Train the same recipe on both and play held-out tasks.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds, from 0 on.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the recipe.")] = 320,
    base: Annotated[str, typer.Option(help="'scratch', a policy's id, a folder or a Hugging Face name.")] = "scratch",
    rate: Annotated[float, typer.Option(help="Learning rate; about 2e-5 for large models.")] = 2e-3,
    suite: Annotated[str, typer.Option(help="heldout (every environment), or the name of one.")] = "heldout",
    n: Annotated[int, typer.Option("--n", min=1, help="Held-out tasks of each environment.")] = 300,
    json: Json = False,
) -> None:
    """Compare two versions: rows and verdicts, and with --train what they teach, with an interval.

    The difference is the first version's held-out success minus the second's, over the same tasks; the interval is the
    wider of those over tasks and over task groups. Several --seeds show how much of it the chance of training makes.

    Example: flywheel corpus compare corpus@v2 corpus@v1 --train --seeds 3
    """
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest

    access.corpora("admin" if train else "read", first, second)
    if train:
        access.policies("admin", base)
    versions = [manifest(home(), *reference.parse(text)) for text in (first, second)]
    fields = ("as_of", "branch", "rows", "splits", "candidates", "reasons", "digest")
    told: dict[str, Any] = {"versions": [{"version": m.ref} | {f: getattr(m, f) for f in fields} for m in versions]}
    if train:
        told["taught"] = _teach(versions[0].ref, versions[1].ref, seeds, steps, base, rate, suite, n)
    if json:
        emit(told)
        return
    rows: list[tuple[Any, ...]] = []
    for field in fields:
        values = [getattr(of, field) for of in versions]
        if isinstance(values[0], dict):
            rows += [
                (f"{field}: {name}", *(v.get(name, 0) for v in values)) for name in sorted({*values[0], *values[1]})
            ]
        else:
            rows.append((field, *values))
    table("versions", ["", versions[0].ref, versions[1].ref], rows)
    if not train:
        if versions[0].name == versions[1].name:
            older, newer = sorted(versions, key=lambda of: of.version)
            say(f"rows that differ: flywheel corpus diff {older.ref} {newer.ref}")
        return
    rows = []
    for taught in told["taught"]:
        one, two = taught.success
        found = taught.comparison.paired
        interval = f"{found.low:+.3f} to {found.high:+.3f}"
        rates = (f"{one.success:.3f}", f"{two.success:.3f}", f"{found.difference:+.3f}")
        rows.append((taught.seed, *rates, interval, one.n))
    columns = ["seed", versions[0].ref, versions[1].ref, "difference", "95 % interval", "tasks"]
    table("held-out success, greedy", columns, rows)


def _teach(first: str, second: str, seeds: int, steps: int, base: str, rate: float, suite: str, n: int) -> list[Any]:
    from flywheel.evaluate.corpora import teach
    from flywheel.evaluate.suite import named
    from flywheel.train.config import SFTRun

    recipe = SFTRun(data=first, base=base, steps=steps, learning_rate=rate)
    with progress() as display:
        bars: dict[str, Any] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in bars:
                bars[what] = display.add_task(what, total=of)
            display.update(bars[what], completed=done, total=of)

        return teach(home(), first, second, recipe, named(suite, n), range(seeds), told=told)
