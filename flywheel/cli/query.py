"""`flywheel query`: SQL over everything the wheel has stored."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli import access, app
from flywheel.cli.output import Json, emit, say, table
from flywheel.settings import home

SHOWN = 50


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SQL statement (DuckDB) that reads.")],
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"Rows at most; {SHOWN} unless given, with --json all.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask the data folder in SQL.

    Views: trajectories, steps, tool_calls, outcomes, joined (verdicts as of now), quarantine, versions, decisions,
    corpus_rows, pairs, policies, reports, cycle. With --json the rows are one list of objects. The file
    flywheel.duckdb in the data folder has the same views for any DuckDB client; this command writes it anew.

    Example: flywheel query "SELECT reason, count(*) FROM decisions WHERE version = 1 GROUP BY ALL"

    Example: flywheel query "SELECT name, count(*) AS calls FROM tool_calls GROUP BY ALL ORDER BY calls DESC" --json

    Example: flywheel query "DESCRIBE steps"
    """
    from flywheel.corpus.catalog import refresh
    from flywheel.corpus.query import query as ask

    seen = access.seen("read")
    refresh(home())
    answer = ask(home(), sql, limit if limit is not None or json else SHOWN, seen=seen)
    if json:
        emit(answer.records())
    else:
        table("", answer.columns, answer.rows)
    if answer.more:
        say("there are more rows: raise --limit")
