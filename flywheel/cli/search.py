"""`flywheel search`: trajectories like a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.corpus.retrieval.search import Found


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What to look for: the words of a task, or what was said or done.")],
    workspace: Annotated[
        list[str] | None, typer.Option("--workspace", "-w", help="A workspace to look in; all unless given.")
    ] = None,
    within: Annotated[
        str | None, typer.Option("--in", help="Look among the rows of a version, as NAME@v3, NAME@BRANCH or NAME@TAG.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="SQL condition on what is found, such as 'success AND n_steps < 20'.")
    ] = None,
    mode: Annotated[
        Literal["hybrid", "text", "vector"], typer.Option(help="By words, by vectors, or by both.")
    ] = "hybrid",
    embedder: Annotated[
        str, typer.Option(help="What makes the vectors: hashed, minilm, or a sentence model by path or name.")
    ] = "hashed",
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 10,
    steps: Annotated[bool, typer.Option("--steps", help="Show the steps of each, too.")] = False,
    json: Json = False,
) -> None:
    """Find trajectories like a task, best first, with reward and number of steps.

    Words are looked for in all that was said and done, vectors compare what was asked for, and both rankings make one.
    What was captured since the last search is read first. `minilm` and other models need: pip install
    'flywheel[search]'. Conditions name the same columns as the filter of a snapshot.

    Example: flywheel search "change a flight that was paid with a certificate"

    Example: flywheel search "refund a cancelled order" --where "success AND task_type = 'desk'" --limit 5 --steps

    Example: flywheel search "list files by size" --in corpus@v2 --mode vector --json
    """
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest
    from flywheel.corpus.retrieval.search import Index
    from flywheel.curate import embeddings
    from flywheel.schema import FlywheelError

    if within and workspace:
        raise FlywheelError("--in names rows of one workspace already; leave --workspace out")
    seen = None if within or workspace else access.seen("read")
    for name in workspace or ():
        access.allowed("read", name)
    of = manifest(access.corpora("read", within), *reference.parse(within)) if within else None
    # Only a mode that compares vectors loads a model.
    chosen = None if mode == "text" else embeddings.embedder(embedder)
    with progress() as display:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what)
            display.update(tasks[what], completed=done, total=total)

        index = Index(home(), workspace or (seen.workspaces if seen else ()), of, chosen, told)
        found = index.find(text, mode=mode, where=where, limit=limit, steps=steps)
    if json:
        emit(found)
        return
    if not found:
        say(f"none of {len(index)} trajectories has a word of it" + (" and meets the condition" if where else ""))
        return
    columns = ["rank", "score", "trajectory", "task", "reward", "success", "steps", "excerpt"]
    table(f"{len(found)} of {len(index)} trajectories", columns, [_row(one) for one in found])
    for one in found if steps else ():
        title = f"{one.rank}. {one.trajectory_id} of task {one.task_id}"
        table(title, ["step", "role", "said", "called"], [_step(n, s) for n, s in enumerate(one.steps or ())])


def _row(one: Found) -> tuple[Any, ...]:
    reward = one.state if one.reward is None else f"{one.reward:g}"
    return (
        one.rank,
        f"{one.score:.4f}",
        one.trajectory_id,
        one.task_id,
        reward,
        one.success,
        one.n_steps,
        one.excerpt,
    )


def _step(number: int, step: dict[str, Any]) -> tuple[Any, ...]:
    calls = "\n".join(f"{call['name']} {call['arguments']}" for call in step["tool_calls"] or ())
    said = "\n".join(text for text in (step["reasoning"], step["content"]) if text)
    return (number, step["role"] if step["role"] != "tool" else f"tool {step['tool_name'] or ''}", said, calls)
