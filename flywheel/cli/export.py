"""`flywheel export`: captured rows, pairs and step records as files of other tools' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel import settings
from flywheel.cli import app
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from flywheel.export.budget import Budget
    from flywheel.export.card import Card
    from flywheel.export.choose import Chosen
    from flywheel.export.learned import Learned
    from flywheel.export.source import Source


@app.command()
def export(
    format: Annotated[
        str,
        typer.Argument(
            help="trl-sft, trl-dpo, trl-kto, trl-prompts, openai, axolotl, sharegpt, hermes, steps or step-records."
        ),
    ],
    version: Annotated[str | None, typer.Argument(help="A corpus version, as NAME@v3.")] = None,
    to: Annotated[Path | None, typer.Option(help="The folder to write; exports/FORMAT unless given.")] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="Instead of a version: what a workspace captured.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option(help="Of the workspace, the trajectories whose ids this statement gives.")
    ] = None,
    pairs: Annotated[str | None, typer.Option(help="Instead, for trl-dpo: the key of pairs made of trees.")] = None,
    trees: Annotated[str | None, typer.Option(help="Instead, for step-records: the key of rollout trees.")] = None,
    split: Annotated[str, typer.Option(help="train, or heldout: what evaluations ask.")] = "train",
    where: Annotated[
        str | None, typer.Option(help="A SQL condition on reward, task_type, n_steps, ...; on columns of pairs.")
    ] = None,
    license: Annotated[str, typer.Option(help="What the card says of how it may be used.")] = "unspecified",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Put a marker for steps in the middle of longer trajectories.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="What counts tokens, by folder or name; four characters are one unless given.")
    ] = None,
    summariser: Annotated[
        str | None, typer.Option(help="PACKAGE.MODULE:FUNCTION that writes a summary instead of the marker.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="trl-dpo: least gap between chances of success (0.6).")
    ] = None,
    probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="trl-dpo: least probability that the chosen is better (0.8).")
    ] = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="Write .jsonl.gz.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet (steps and step-records).")] = False,
    json: Json = False,
) -> None:
    """Write a folder of files in a format, with a card: what it holds, what was left out and why, and what is lost.

    Rows that are held out stay behind unless --split heldout asks for them, also those of a workspace or of a
    statement: there, what the split of any version made of the workspace holds out. The same export again is the
    same bytes. trl-dpo and step-records compare the tries of each task, or take what trees taught (--pairs, --trees).

    Example: flywheel export trl-sft airline@v3 --to exports/airline --license mit

    Example: flywheel export hermes --workspace desk --sql "SELECT trajectory_id FROM joined WHERE reward > 0.9"

    Example: flywheel export openai airline@v3 --max-tokens 16000 --tokenizer Qwen/Qwen3-0.6B --json

    Example: flywheel export trl-dpo --workspace desk --margin 0.5
    """
    from flywheel.export import formats

    formats.checked(format)
    to = to or Path("exports") / format
    if (tokenizer or summariser) and max_tokens is None:
        raise FlywheelError("--tokenizer and --summariser are for --max-tokens: give that too")
    if sum(one is not None for one in (version, workspace, pairs, trees)) != 1 or (sql is not None and not workspace):
        instead = {"trl-dpo": ", or --pairs KEY", "step-records": ", or --trees KEY"}.get(format, "")
        raise FlywheelError(f"name a corpus version (NAME@v3), or --workspace NAME, alone or with --sql{instead}")
    if pairs is not None or trees is not None:
        given = {"--max-tokens": max_tokens, "--margin": margin, "--probability": probability}
        made = _learned(format, pairs, trees, where, [n for n, v in given.items() if v is not None], split)
    else:
        home, chosen = _chosen(format, version, workspace, sql, split, where)
        gates = formats.gates(margin, probability)
        made = formats.source(home, chosen, format, budget=_budget(max_tokens, tokenizer, summariser), gates=gates)
    card = _written(made, to, license=license, packed=gzip, columns=parquet)
    if json:
        emit({"folder": str(to), "card": card})
        return
    table(
        f"{card.format} in {to}: {card.written:,} of {card.looked_at:,} {card.unit}",
        ("file", "rows", "bytes", "SHA-256"),
        [(file.name, file.rows, file.bytes, file.sha256) for file in card.files],
    )
    if card.left_out:
        table("Left out", ("reason", card.unit), card.left_out.items())
    if not card.looked_at:
        say("nothing to choose from: bring captures in with flywheel ingest, or flywheel settle what is recorded")
    if card.left_out.get("no verdict"):
        say("no verdict: no outcome has come that the reward policy asks for; flywheel outcomes show --help tells more")
    if card.compressed:
        table("Compressed", ("how", "trajectories"), card.compressed.items())
    say(f"what it is and what it does not carry: {to / 'README.md'}")


def _written(source: Source, to: Path, **how: Any) -> Card:
    from flywheel.export import write

    with progress() as display:
        task = display.add_task("export", total=source.total)
        return write.files(
            source, to, **how, progress=lambda done, total: display.update(task, completed=done, total=total)
        )


def _learned(
    format: str, pairs: str | None, trees: str | None, where: str | None, given: list[str], split: str
) -> Learned:
    """What trees taught, by key, of whom it may be asked."""
    from flywheel.cli import access
    from flywheel.export.learned import Learned

    option, key = ("--pairs", pairs) if pairs is not None else ("--trees", trees)
    if format != {"--pairs": "trl-dpo", "--trees": "step-records"}[option]:
        raise FlywheelError(f"{option} is for {'trl-dpo' if pairs is not None else 'step-records'}, not for {format}")
    if given or split != "train":
        raise FlywheelError(f"{option} names what is made already: leave out {', '.join(given) or '--split'}")
    key = settings.checked_name(key or "", "key")
    home = access.files("export", settings.home().pairs / key) if pairs is not None else access.trees("export", key)
    return Learned(home, format, key, where)


def _chosen(
    format: str, version: str | None, workspace: str | None, sql: str | None, split: str, where: str | None
) -> tuple[settings.Home, Chosen]:
    """What was asked for, of whom it may be asked."""
    from flywheel.cli import access
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest
    from flywheel.export import choose

    side = choose.checked_split(split)
    if split == "heldout":
        say("held-out rows are what evaluations ask: a policy that is trained on them cannot be evaluated any more")
    if workspace is None:
        home = access.corpora("export", version or "")
        of = manifest(home, *reference.parse(version or ""))
        return home, choose.of_version(home, of, side, where, trained=format != "steps")
    home = access.allowed("export", workspace)
    ids = None if sql is None else choose.ids(home, sql, access.seen("export"))
    return home, choose.of_workspace(home, workspace, side, where=where, ids=ids, sql=sql)


def _budget(max_tokens: int | None, tokenizer: str | None, summariser: str | None) -> Budget | None:
    from flywheel.export.budget import budget

    return None if max_tokens is None else budget(max_tokens, tokenizer, summariser)
