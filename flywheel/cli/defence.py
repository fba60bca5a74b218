"""`flywheel corpus audit` and `graduate`: what was found in a version, and a person's word on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from flywheel.cli import access
from flywheel.cli.corpus import Reference, corpus_app
from flywheel.cli.output import Json, emit, say, table
from flywheel.settings import home


@corpus_app.command("audit")
def audit(
    version: Reference,
    rows: Annotated[int, typer.Option(min=0, help="Offending rows to print; --json gives all.")] = 20,
    json: Json = False,
) -> None:
    """Examine a version against the one before it that graduated; ends with 1 where it is held.

    Shifts, sudden duplicates, rewards that evidence contradicts, answers in texts, new phrases, touched graders and
    success that was too easy. Limits are those of `defence.toml` in the data folder.

    Example: flywheel corpus audit airline@v2

    Example: flywheel corpus audit airline@v2 --json
    """
    from flywheel.corpus import reference
    from flywheel.corpus.defence import graduation
    from flywheel.corpus.manifest import manifest

    of = manifest(access.corpora("read", version), *reference.parse(version))
    found = graduation.audit(home(), of)
    offending = graduation.rows(home(), of).to_pylist()
    words = graduation.graduations(home(), of)
    free = graduation.graduated(home(), of)
    if json:
        emit({"verdict": found, "graduated": free, "graduations": words, "rows": offending})
    else:
        against = f"v{found.parent}" if found.parent else "nothing: no version before it graduated"
        title = f"{of.ref} against {against}; {found.came_in} of {found.rows} training rows came in"
        columns = ["number", "level", "kind", "measure", "limit", "rows", "what", "next"]
        told = [(f.number, f.level, f.kind, f.measure, f.limit, f.rows, f.detail, f.advice) for f in found.findings]
        table(title, columns, told)
        if offending and rows:
            columns = ["number", "kind", "trajectory_id", "excerpt"]
            table("offending rows", columns, [[row[column] for column in columns] for row in offending[:rows]])
        if len(offending) > rows:
            say(f"and {len(offending) - rows} more rows: --rows {len(offending)}, or --json")
        for word in words:
            say(f"{word.by} let it graduate on {word.at:%Y-%m-%d}: {word.because}")
        if free:
            say(f"{of.ref} graduates")
        else:
            say(f"{of.ref} is held. To let it graduate: flywheel corpus graduate {of.ref} --by NAME --because TEXT")
    if not free:
        raise typer.Exit(1)


@corpus_app.command("graduate")
def graduate(
    version: Reference,
    by: Annotated[str, typer.Option(help="Who says so.")],
    because: Annotated[str, typer.Option(help="Why the version is as it should be.")],
    json: Json = False,
) -> None:
    """Let a held version be trained on; who said so, and why, is kept for good.

    Example: flywheel corpus graduate airline@v2 --by Ada --because 'The new phrase is our summer campaign.'
    """
    from flywheel.corpus import reference
    from flywheel.corpus.defence import graduation
    from flywheel.corpus.manifest import manifest

    of = manifest(access.corpora("admin", version), *reference.parse(version))
    said = graduation.graduate(home(), of, by=by, because=because, at=datetime.now(UTC))
    if json:
        emit(said)
        return
    say(f"{of.ref} graduates, by the word of {said.by}")
