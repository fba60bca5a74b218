"""Files of outcomes: CSV and JSON Lines, read line by line into the ledger; what is malformed goes to quarantine."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import IO, Any

import msgspec

from flywheel.capture import quarantine, workspaces
from flywheel.capture.feedback import ledger
from flywheel.capture.feedback.ledger import Telling
from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.recorders.recorder import utc_now
from flywheel.schema import FlywheelError
from flywheel.settings import Home

BATCH = 5_000  # rows that are stored at once
FIELDS = Telling.__struct_fields__
DELIMITERS = ",;\t"
LONGEST_CELL = 2**20
SHOWN = 20  # errors that a report tells


class Row(msgspec.Struct, frozen=True):
    """A row of a file: its line (from 1), its text as far as it is kept, and its fields or what is wrong with it."""

    line: int
    excerpt: str
    fields: dict[str, Any] = {}
    error: str = ""


class Imported(msgspec.Struct, kw_only=True):
    """What became of a file: `rows` is always `added` + `already_there` + `erased` + `quarantined`.

    `signals` counts the good rows. `unknown_trajectories` are ids that no stored trajectory has: their outcomes are
    kept, and count when it comes. `ignored_columns` are those that say nothing of an outcome. `errors` are the first
    few, by line.
    """

    file: str
    rows: int = 0
    added: int = 0
    already_there: int = 0
    erased: int = 0
    quarantined: int = 0
    unknown_trajectories: int = 0
    signals: dict[str, int] = {}
    ignored_columns: tuple[str, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()
    dry_run: bool = False


def load(
    home: Home,
    path: Path,
    workspace: str,
    *,
    columns: Mapping[str, str] | None = None,
    signal: str = "",
    source: str = "",
    zone: tzinfo | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Append the outcomes of a file to the ledger, each once however often it is read; bad rows go to quarantine.

    `columns` says what a column is that does not bear a field's name. `signal` and `source` are those of rows that
    tell none; `zone` that of times which have none. A row without a time was true when it was first read. `progress`
    is told the bytes that were read. A dry run reads all of it and stores nothing.

    Raises:
        FlywheelError: when the file is not there, or its columns are not those of outcomes.
    """
    workspaces.require(home, workspace)
    if not path.is_file():
        raise FlywheelError(f"{path} is no file; give a CSV or JSON Lines file of outcomes")
    given = {"signal": signal, "source": source or "file"}
    names = _checked(columns or {})
    report = Imported(file=str(path), dry_run=dry_run)
    signals: Counter[str] = Counter()
    unknown: set[str] = set()
    read = _csv if path.suffix.lower() in (".csv", ".tsv") else _jsonl
    with path.open("rb") as file:
        rows = read(path, file, names, given, report)
        while batch := list(itertools.islice(rows, BATCH)):
            at = now or utc_now()
            good, bad = _tellings(batch)
            tellings = [msgspec.structs.replace(t, key="") if dry_run else t for _, t in good]
            heard = ledger.hear(home, workspace, tellings, at, zone=zone, keyed=not dry_run)
            outcomes = [one.outcome for one in heard if isinstance(one, ledger.Heard)]
            bad += [
                (row.line, str(one), row.excerpt)
                for (row, _), one in zip(good, heard, strict=True)
                if isinstance(one, FlywheelError)
            ]
            report.rows += len(batch)
            report.quarantined += len(bad)
            report.errors = (*report.errors, *((line, error) for line, error, _ in bad))[:SHOWN]
            signals.update(outcome.signal for outcome in outcomes)
            if not dry_run:
                quarantine.set_aside(home, workspace, "/".join(path.parts[-2:]), bad, at)
                added = ledger.append(home, workspace, outcomes, at)
                report.added += added.added
                report.already_there += added.already_there
                report.erased += added.erased
                unknown |= added.unknown
            if progress:
                progress(file.tell())
    report.signals = dict(sorted(signals.items()))
    report.unknown_trajectories = len(unknown)
    return report


def _checked(columns: Mapping[str, str]) -> dict[str, str]:
    """The field of each column that was said, and of each that bears a field's name."""
    for column, field in columns.items():
        if field not in FIELDS:
            raise FlywheelError(
                f"--map {column}={field}: there is no field {field!r} of outcomes; there are: {', '.join(FIELDS)}"
            )
    said = set(columns.values())
    return {field: field for field in FIELDS if field not in said} | dict(columns)


def _header(path: Path, there: Sequence[str], names: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Refuse columns of which no outcome can be made."""
    if missing := sorted(set(names) - set(FIELDS) - set(there)):
        raise FlywheelError(f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(there)}")
    if twice := sorted(column for column, count in Counter(there).items() if count > 1 and column in names):
        raise FlywheelError(f"{path} has the column {', '.join(twice)} more than once; name each its own way")
    found = {names[column] for column in there if column in names}
    for field in ("trajectory_id", "signal", "value"):
        if field not in found and not given.get(field):
            hint = ", or give one to all rows with --signal NAME" if field == "signal" else ""
            raise FlywheelError(
                f"{path} has no column {field!r}; its columns are: {', '.join(there)}. "
                f"Say which it is with --map COLUMN={field}{hint}"
            )


def _csv(
    path: Path, file: IO[bytes], names: Mapping[str, str], given: Mapping[str, str], report: Imported
) -> Iterator[Row]:
    """The rows of a CSV file; cells that are empty say nothing."""
    lines = _Lines(file)
    first = lines.peek()
    delimiter = max(DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        there = [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        raise FlywheelError(f"the first line of {path} is no header: {error}") from error
    _header(path, there, names, given)
    report.ignored_columns = tuple(column for column in there if column not in names)
    while True:
        start = lines.number + 1
        lines.said.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Row(start, lines.excerpt, error=f"this is no CSV: {error}")
            continue
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(there):
            yield Row(start, lines.excerpt, error=f"{len(cells)} cells where the header has {len(there)} columns")
            continue
        if not _utf8(cells):
            yield Row(start, lines.excerpt.encode("utf-8", "replace").decode(), error="this is not UTF-8")
            continue
        told = {names[c]: cell.strip() for c, cell in zip(there, cells, strict=True) if c in names and cell.strip()}
        yield Row(start, lines.excerpt, _given(told, given))


def _jsonl(
    path: Path, file: IO[bytes], names: Mapping[str, str], given: Mapping[str, str], report: Imported
) -> Iterator[Row]:
    """The rows of a JSON Lines file; nulls say nothing."""
    ignored: dict[str, None] = {}
    for number, line in enumerate(file, 1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            continue
        excerpt = text[:EXCERPT].decode("utf-8", "replace")
        try:
            said = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            yield Row(number, excerpt, error=str(error))
            continue
        ignored.update(dict.fromkeys(name for name in said if name not in names))
        report.ignored_columns = tuple(ignored)
        told = {names[name]: value for name, value in said.items() if name in names and value is not None}
        yield Row(number, excerpt, _given(told, given))


def _given(told: dict[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """What a row tells, and what is given to rows that tell nothing of it."""
    return {field: value for field, value in given.items() if value} | told


def _tellings(batch: Sequence[Row]) -> tuple[list[tuple[Row, Telling]], list[tuple[int, str, str]]]:
    good: list[tuple[Row, Telling]] = []
    bad: list[tuple[int, str, str]] = []
    for row in batch:
        try:
            if row.error:
                raise ValueError(row.error)
            # Cells are text: numbers are read out of it.
            good.append((row, msgspec.convert(row.fields, Telling, strict=False)))
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            bad.append((row.line, str(error), row.excerpt))
    return good, bad


class _Lines:
    """A file's lines as text for `csv`, counted, with those of the row that is being read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._peeked: str | None = None
        self.number = 0
        self.said: list[str] = []

    def peek(self) -> str:
        """The first line, which will be read all the same."""
        self._peeked = self._decoded(self._file.readline().removeprefix(b"\xef\xbb\xbf"))
        return self._peeked

    @property
    def excerpt(self) -> str:
        """How the row begins."""
        return "".join(self.said)[:EXCERPT].rstrip("\r\n")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, self._peeked = self._peeked or self._decoded(self._file.readline()), None
        if not line:
            raise StopIteration
        self.number += 1
        if len(self.said) < 8:
            self.said.append(line[:EXCERPT])
        return line

    def _decoded(self, line: bytes) -> str:
        return line.decode("utf-8", "surrogateescape")


def _utf8(cells: Sequence[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True
