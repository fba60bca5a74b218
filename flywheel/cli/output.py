"""How commands speak: one JSON document or a table on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

errors = Console(stderr=True)


def emit(value: Any) -> None:
    """Print one JSON document on standard output (records, dates and paths included)."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table for people on standard output."""
    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(drawn)


def say(text: str) -> None:
    """A remark on standard error."""
    errors.print(text, highlight=False, markup=False)


def narrate() -> None:
    """Let the library's log speak on standard error, beside progress displays."""
    log = logging.getLogger("flywheel")
    log.addHandler(RichHandler(console=errors, show_path=False, show_level=False, log_time_format="%H:%M:%S"))
    log.setLevel(logging.INFO)


def fail(text: str) -> None:
    """An error on standard error."""
    errors.print(f"flywheel: {text}", style="red", highlight=False, markup=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on standard error; silent where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as display:
        yield display
