"""`flywheel stream` and `tokenize`: training rows as a model reads them, with what is trained marked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, progress, table
from flywheel.schema import FlywheelError
from flywheel.settings import home

if TYPE_CHECKING:
    from flywheel.views.chat import Rendered


Where = Annotated[
    str | None, typer.Option(help="A SQL condition on reward, task_type, n_steps, ..., as in a snapshot's filter.")
]


@app.command()
def stream(
    version: Annotated[str, typer.Argument(help="A corpus, as NAME@v3; NAME alone is its newest version.")],
    limit: Annotated[int, typer.Option(min=1, help="Rows (or windows of rows) to print.")] = 3,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or name of a tokenizer with a chat template; plain ChatML unless given.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="With a tokenizer: cut longer rows into windows.")] = 32768,
    seed: Annotated[int, typer.Option(help="Decides the order of the rows.")] = 0,
    where: Where = None,
    json: Json = False,
) -> None:
    """Print training rows decoded, as spans of text that are trained on (green) or only read.

    Each row has `spans`: text, trained, role. Joined they are the whole text that the model reads. With a
    tokenizer they are decoded from its tokens and their mask, and `tokens` and `trained_tokens` count them.

    Example: flywheel stream airline@v1 --limit 2

    Example: flywheel stream corpus --limit 5 --tokenizer data/policies/ID/model --json

    Example: flywheel stream airline@main --where "task_type = 'refund' AND n_steps < 20"
    """
    from flywheel.corpus import reference
    from flywheel.corpus.streaming.stream import stream as read

    rows = read(access.corpora("export", version), *reference.parse(version), split=split, where=where, seed=seed)
    shown = _plain(rows) if tokenizer is None else _decoded(rows, _load(tokenizer), max_tokens)
    if json:
        emit(list(islice(shown, limit)))
        return
    console = Console()
    for row in islice(shown, limit):
        console.rule(f"{row['trajectory_id']}  task {row['task_id']}  reward {row['reward']}")
        console.print(Text.assemble(*((span["text"], "green" if span["trained"] else "dim") for span in row["spans"])))


@app.command()
def tokenize(
    version: Annotated[str, typer.Argument(help="A corpus, as NAME@v3, NAME@BRANCH or NAME@TAG.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or name of a tokenizer with a chat template.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Cut longer rows into windows.")] = 4096,
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
    where: Where = None,
    processes: Annotated[int, typer.Option(min=1, help="How many processes share the work.")] = 1,
    json: Json = False,
) -> None:
    """Tokenize the rows of a version ahead of training, and say what became of them.

    Tokens are kept by content, tokenizer, chat template and max-tokens: a row is tokenized once, whatever versions
    and corpora hold it, and a killed run goes on where it stopped. Streams do the same when they need it.

    Example: flywheel tokenize airline@v1 --tokenizer data/policies/ID/model --max-tokens 2048

    Example: flywheel tokenize airline@main --tokenizer Qwen/Qwen3-0.6B --processes 8 --where "reward >= 0.9" --json
    """
    import msgspec

    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest
    from flywheel.corpus.streaming.stream import tokens_of

    of = manifest(access.corpora("read", version), *reference.parse(version))
    began = time.perf_counter()
    with progress() as display:
        task = display.add_task("tokenize", total=None)
        _, told = tokens_of(
            home(),
            of,
            _load(tokenizer),
            max_tokens,
            split=split,
            where=where,
            processes=processes,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )
    summary = {"version": of.ref} | msgspec.to_builtins(told) | {"seconds": round(time.perf_counter() - began, 3)}
    if json:
        emit(summary)
        return
    dropped = summary.pop("dropped")
    table(of.ref, list(summary), [list(summary.values())])
    if dropped:
        table("dropped", ["rows", "reason"], [[rows, reason] for reason, rows in dropped.items()])


def _plain(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    import msgspec

    from flywheel.corpus.streaming.stream import steps_of
    from flywheel.views.chatml import spans

    for row in rows:
        cut = spans(steps_of(row), row["tools"])
        yield {**_about(row), "spans": [msgspec.structs.asdict(span) for span in cut]}


def _decoded(rows: Iterator[dict[str, Any]], tokenizer: Any, max_tokens: int) -> Iterator[dict[str, Any]]:
    from flywheel.corpus.streaming.stream import steps_of
    from flywheel.views.window import windows

    for row in rows:
        for window in windows(tokenizer, steps_of(row), row["tools"], max_tokens).windows:
            rendered = window.rendered
            yield {
                **_about(row),
                "steps": window.shown,
                "tokens": len(rendered.input_ids),
                "trained_tokens": sum(rendered.assistant_mask),
                "spans": _runs(tokenizer, rendered),
            }


def _runs(tokenizer: Any, rendered: Rendered) -> list[dict[str, Any]]:
    """Each run of tokens that are trained, or are not, decoded."""
    roles = iter([span.role for span in rendered.spans if not span.trained])
    tokens = zip(rendered.assistant_mask, rendered.input_ids, strict=True)
    return [
        {
            "text": tokenizer.decode([token for _, token in run]),
            "trained": bool(trained),
            "role": "assistant" if trained else next(roles, "assistant"),
        }
        for trained, run in groupby(tokens, key=lambda pair: pair[0])
    ]


def _about(row: dict[str, Any]) -> dict[str, Any]:
    return {"trajectory_id": row["id"]} | {name: row[name] for name in ("task_id", "task_type", "split", "reward")}


def _load(tokenizer: str) -> Any:
    from transformers import AutoTokenizer

    from flywheel.rollout.quiet import quiet

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise FlywheelError(f"there is no tokenizer {tokenizer!r}: {str(error).splitlines()[0]}") from error
