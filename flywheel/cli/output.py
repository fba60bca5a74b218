"""How commands speak: one JSON document or a table on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

# In characters: the terminal in which every table fits.
UNBOUNDED = 100_000
LONGEST = 500

errors = Console(stderr=True)


def emit(value: Any) -> None:
    """Print one JSON document on standard output (records, dates and paths included)."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table for people on standard output; one that is too wide for the terminal stands on its side.

    Cells end after `LONGEST` characters: what a program reads is the JSON.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    drawn = _drawn(title, columns, cells)
    console = Console()
    width = Measurement.get(console, console.options.update(width=UNBOUNDED), drawn).maximum
    if not console.is_terminal:
        # A file or a pipe has no edge that something could fall off.
        console = Console(width=max(console.width, width))
    elif width > console.width and len(cells) < len(columns):
        sides = [[name, *(row[i] for row in cells)] for i, name in enumerate(columns)]
        drawn = _drawn(title, sides[0], sides[1:])
    console.print(drawn)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    if isinstance(cell, list | tuple) and all(isinstance(part, str) for part in cell):
        cell = ", ".join(cell)
    text = str(cell)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _drawn(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    drawn = Table(title=Text(title), title_justify="left")
    for column in columns:
        drawn.add_column(Text(column), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn


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
