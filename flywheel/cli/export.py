"""`flywheel export`: captured rows, pairs and step records as files of other tools' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel import settings
from flywheel.cli import app
from flywheel.cli.output import Json, emit, progress, say, table
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from flywheel.export.card import Card
    from flywheel.export.choose import Chosen


@app.command()
def export(
    format: Annotated[
        str,
        typer.Argument(
            help="trl-sft, trl-dpo, trl-kto, trl-prompts, openai, axolotl, sharegpt, hermes, steps or step-records."
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(help="A corpus version, as NAME@v3; for trl-dpo the key of pairs, for step-records of trees."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The folder to write; exports/FORMAT unless given.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Instead of a version: what a workspace captured.")] = None,
    sql: Annotated[
        str | None, typer.Option(help="Of the workspace, the trajectories whose ids this statement gives.")
    ] = None,
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
    gzip: Annotated[bool, typer.Option("--gzip", help="Write .jsonl.gz.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet (steps and step-records).")] = False,
    json: Json = False,
) -> None:
    """Write a folder of files in a format, with a card: what it holds, what was left out and why, and what is lost.

    Rows that are held out stay behind unless --split heldout asks for them, also those of a workspace or of a
    statement: there, what the split of any version made of the workspace holds out. The same export again is the
    same bytes.

    Example: flywheel export trl-sft airline@v3 --to exports/airline --license mit

    Example: flywheel export hermes --workspace desk --sql "SELECT trajectory_id FROM joined WHERE reward > 0.9"

    Example: flywheel export openai airline@v3 --max-tokens 16000 --tokenizer Qwen/Qwen3-0.6B --json
    """
    from flywheel.export import learned

    given = {"--workspace": workspace, "--sql": sql, "--max-tokens": max_tokens}
    to = to or Path("exports") / format
    if (tokenizer or summariser) and max_tokens is None:
        raise FlywheelError("--tokenizer and --summariser are for --max-tokens: give that too")
    if format in (learned.DPO, learned.STEP_RECORD):
        if source is None or any(value is not None for value in given.values()) or split != "train":
            raise FlywheelError(
                f"{format} comes of trees: name the key of {'pairs' if format == learned.DPO else 'trees'}, "
                f"without {', '.join(given)} and --split"
            )
        card = _learned(format, source, to, where, license, gzip, parquet)
    else:
        card = _trajectories(
            format, source, to, workspace, sql, split, where, license, max_tokens, tokenizer, summariser, gzip, parquet
        )
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
    if card.compressed:
        table("Compressed", ("", "trajectories"), card.compressed.items())
    say(f"what it is and what it does not carry: {to / 'README.md'}")


def _learned(format: str, key: str, to: Path, where: str | None, license: str, packed: bool, columns: bool) -> Card:
    from flywheel.cli import access
    from flywheel.export import learned

    settings.checked_name(key, "key")
    if format == learned.STEP_RECORD:
        home = access.trees("export", key)
        return learned.records(home, key, to, where=where, license=license, packed=packed, columns=columns)
    if columns:
        raise FlywheelError("trl-dpo is JSON Lines; steps and step-records come as Parquet too")
    home = access.files("export", settings.home().pairs / key)
    return learned.pairs(home, key, to, where=where, license=license, packed=packed)


def _trajectories(
    format: str,
    source: str | None,
    to: Path,
    workspace: str | None,
    sql: str | None,
    split: str,
    where: str | None,
    license: str,
    max_tokens: int | None,
    tokenizer: str | None,
    summariser: str | None,
    packed: bool,
    columns: bool,
) -> Card:
    from flywheel.export import write
    from flywheel.export.budget import budget
    from flywheel.views.formats import format_of

    of = format_of(format)
    if split == "heldout":
        say("held-out rows are what evaluations ask: a policy that is trained on them cannot be evaluated any more")
    home, chosen = _chosen(of.name, source, workspace, sql, split, where)
    with progress() as display:
        task = display.add_task("export", total=chosen.keys.num_rows)
        return write.trajectories(
            home,
            chosen,
            of.name,
            to,
            license=license,
            packed=packed,
            columns=columns,
            budget=budget(max_tokens, tokenizer, summariser) if max_tokens is not None else None,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )


def _chosen(
    format: str, source: str | None, workspace: str | None, sql: str | None, split: str, where: str | None
) -> tuple[settings.Home, Chosen]:
    """What was asked for, of whom it may be asked."""
    from flywheel.cli import access
    from flywheel.corpus import reference
    from flywheel.corpus.manifest import manifest
    from flywheel.export import choose

    side = choose.checked_split(split)
    if (source is None) == (workspace is None) or (sql is not None and workspace is None):
        raise FlywheelError("name a corpus version (NAME@v3), or else --workspace NAME, alone or with --sql")
    if workspace is None:
        home = access.corpora("export", source or "")
        of = manifest(home, *reference.parse(source or ""))
        return home, choose.of_version(home, of, side, where, trained=format != "steps")
    home = access.allowed("export", workspace)
    ids = None if sql is None else choose.ids(home, sql, access.seen("export"))
    return home, choose.of_workspace(home, workspace, side, where=where, ids=ids, sql=sql)
