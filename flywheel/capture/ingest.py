"""Ingesting: files of known formats become stored trajectories and outcomes; what is malformed goes to quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from flywheel.capture import importers, quarantine, workspaces
from flywheel.capture.importers import Importer, documents
from flywheel.capture.importers.records import EXCERPT, Bad, Record
from flywheel.capture.recorders.recorder import utc_now
from flywheel.capture.redaction import boundary, leaks, redact
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.capture.validity import checked, of_workspace
from flywheel.schema import FlywheelError
from flywheel.settings import Home

BATCH = 500  # records that are stored at once: what memory holds
# Of the files that are taken from a folder.
SUFFIXES = tuple(kind + packed for kind in (".json", ".jsonl", ".ndjson", ".traj") for packed in ("", ".gz"))


class FileReport(msgspec.Struct, kw_only=True):
    """What became of one file.

    `records` is always `added` + `already_there` + `erased` (what was forgotten does not come back) + `duplicates`
    (within the file) + `quarantined`. Outcomes, steps, tool calls and redactions (by kind; printed rewards are
    `LABEL`) are those of the added records. `error` is why a file of a folder, or the rest of it, was set aside: that
    is one record in quarantine.
    """

    path: str
    format: str
    records: int = 0
    added: int = 0
    already_there: int = 0
    erased: int = 0
    duplicates: int = 0
    quarantined: int = 0
    outcomes: int = 0
    steps: int = 0
    tool_calls: int = 0
    redactions: dict[str, int] = {}
    error: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all files, one by one and together."""

    workspace: str
    files: list[FileReport]
    total: FileReport
    broken: list[str] = []  # importers of other packages that could not be used


class Chosen(msgspec.Struct, frozen=True):
    """A file to read, named or found in a folder; `foreign` is the importer of another package, that may fail somehow.

    One of a folder may be of no format: `error` tells why it is set aside.
    """

    path: Path
    importer: Importer | None
    named: bool
    foreign: bool = False
    error: str = ""


def ingest(
    home: Home,
    paths: Sequence[Path],
    workspace: str,
    format: str = "auto",
    now: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Store the records of files (and of the files in folders that end in one of `SUFFIXES`) in a workspace.

    The same record again adds nothing, wherever it stands: a trajectory is named by its content. Records are stored
    in batches and arrive with them (at `now` where it is given), so that what a killed ingest has stored is found
    by the next. Secrets and printed rewards are replaced first. `progress` is told the bytes read of all files
    together. Formats are found out before anything is stored; a file of none is an error, unless it was found in a
    folder: then it is quarantined as a whole. What a broken gzip file held before the break is read.
    """
    workspaces.require(home, workspace)
    known = importers.known()
    chosen = _chosen(paths, format, known)
    arrivals = Arrivals(home, workspace)
    reports: list[FileReport] = []
    before = 0
    for file in chosen:
        path = file.path
        report = FileReport(path=str(path), format=file.importer.NAME if file.importer else "")
        seen: set[str] = set()
        for batch in _batches(_records(file, workspace, now or utc_now(), report)):
            with arrivals.locked():
                _store(batch, arrivals, report, seen, now or utc_now())
            if progress:
                progress(before + min(batch[-1].end, path.stat().st_size))  # of gzip, `end` counts unpacked bytes
        before += path.stat().st_size
        reports.append(report)
    return Report(workspace=workspace, files=reports, total=_total(reports), broken=known.broken)


def _chosen(paths: Sequence[Path], format: str, known: importers.Known) -> list[Chosen]:
    chosen: list[Chosen] = []
    for path in paths:
        for file in files([path]):
            try:
                importer = known.importer_of(file, format)
            except (importers.Unknown, documents.Unreadable, OSError) as error:
                if not path.is_dir():
                    raise
                chosen.append(Chosen(file, None, named=False, error=_said(error)))
            else:
                chosen.append(Chosen(file, importer, not path.is_dir(), importer.NAME in known.packages))
    return chosen


def _records(file: Chosen, workspace: str, at: datetime, report: FileReport) -> Iterator[Record | Bad]:
    """The records of a file, and one `Bad` for all that cannot be read any more, where that is no error."""
    if file.importer is None:
        report.error = file.error
        yield _aside(file.path, file.error)
        return
    try:
        for record in file.importer.read(file.path, workspace, at):
            yield _valid(record, workspace) if file.foreign else record
    except documents.Torn as error:
        report.error = str(error)
        yield _aside(file.path, str(error))
    except (FlywheelError, OSError) as error:
        if file.named:
            raise
        report.error = _said(error)
        yield _aside(file.path, report.error)
    except Exception as error:
        if not file.foreign:
            raise
        report.error = f"the importer {file.importer.NAME!r} failed on {file.path}: {_said(error)}"
        if file.named:
            raise FlywheelError(report.error) from error
        yield _aside(file.path, report.error)


def _valid(record: Record | Bad, workspace: str) -> Record | Bad:
    """A record of another package's importer, if it is one that can be stored."""
    if isinstance(record, Bad):
        return record
    try:
        trajectory = checked(record.trajectory)
        outcomes = tuple(checked(outcome) for outcome in record.outcomes)
        for one in (trajectory, *outcomes):
            of_workspace(one, workspace)
        if any(outcome.trajectory_id != trajectory.id for outcome in outcomes):
            raise FlywheelError("an outcome is of another trajectory than its record's")
        return Record(trajectory, outcomes, record.end)
    except FlywheelError as error:
        return Bad(record.trajectory.source_line, str(error), "", record.end)


def _aside(path: Path, error: str) -> Bad:
    """A file as one bad record; how it begins is told where it can be."""
    try:
        excerpt = documents.head(path, EXCERPT).decode("utf-8", "replace")
    except (FlywheelError, OSError):
        excerpt = ""
    return Bad(None, error, excerpt, path.stat().st_size)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, FlywheelError) else f"{type(error).__name__}: {error}"


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant by paths: themselves, and those in folders, in order of name."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FlywheelError(f"{path} does not exist")
        if not path.is_dir() and not path.is_file():
            raise FlywheelError(f"{path} can be read only once, as pipes can: write it to a file, and ingest that")
        # No pipes, which would be waited for, nor folders that are named like files.
        named = (p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
        inside = sorted(named) if path.is_dir() else [path]
        if not inside:
            raise FlywheelError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}; name others one by one")
        found += inside
    return found


def _batches(records: Iterator[Record | Bad]) -> Iterator[list[Record | Bad]]:
    batch: list[Record | Bad] = []
    for record in records:
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _store(
    batch: Sequence[Record | Bad], arrivals: Arrivals, report: FileReport, seen: set[str], now: datetime
) -> None:
    """Store what is new of a batch: outcomes first, so that a stored trajectory has all of its own."""
    at = arrivals.moment(now, now)
    bad = [record for record in batch if isinstance(record, Bad)]
    good = {r.trajectory.id: r for r in reversed(batch) if isinstance(r, Record) and r.trajectory.id not in seen}
    new = arrivals.new_trajectories(list(good))
    gone = arrivals.erased(good)
    unlabelled = arrivals.without_outcomes(list(new), report.format)
    trajectories, outcomes = [], []
    counts = Counter(report.redactions)
    for id in sorted(new):
        redactor = redact.redactor(arrivals.home, arrivals.workspace)
        kept = boundary.of(arrivals.home, arrivals.workspace, report.format).trajectory(good[id].trajectory)
        trajectory, labels = leaks.masked(msgspec.structs.replace(kept, arrived_at=at))
        trajectories.append(redactor.trajectory(trajectory))
        if id in unlabelled:
            told = [msgspec.structs.replace(outcome, arrived_at=at) for outcome in good[id].outcomes]
            outcomes += [redactor.outcome(outcome) for outcome in told]
        counts += redactor.counts + Counter(LABEL=labels)
    source = "/".join(Path(report.path).parts[-2:])
    inputs = [(one.line, one.error, one.excerpt) for one in bad]
    set_aside = quarantine.refused(arrivals.home, arrivals.workspace, source, inputs, at)
    refused = arrivals.erased_inputs(set_aside)
    arrivals.add_quarantined(set_aside)
    arrivals.add_outcomes(outcomes)
    arrivals.add_trajectories(trajectories)
    seen |= good.keys()

    report.records += len(batch)
    report.added += len(new)
    report.already_there += len(good) - len(new) - len(gone)
    report.erased += len(gone) + refused
    report.duplicates += len(batch) - len(bad) - len(good)
    report.quarantined += len(bad) - refused
    report.outcomes += len(outcomes)
    report.steps += sum(len(t.steps) for t in trajectories)
    report.tool_calls += sum(len(step.tool_calls) for t in trajectories for step in t.steps)
    report.redactions = dict(sorted(counts.items()))


def _total(reports: Sequence[FileReport]) -> FileReport:
    total = FileReport(path="all", format="")
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.redactions)
        for field in FileReport.__struct_fields__:
            if isinstance(value := getattr(report, field), int):
                setattr(total, field, getattr(total, field) + value)
    total.redactions = dict(sorted(counts.items()))
    return total
