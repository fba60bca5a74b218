"""Writing: what was chosen as files of a format, with a card; the folder is whole or absent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from flywheel import artifacts
from flywheel.export import choose
from flywheel.export.budget import Budget
from flywheel.export.card import UNSPECIFIED, Card, File, readme
from flywheel.export.choose import Chosen
from flywheel.export.files import Columns, Lines, Sink, line
from flywheel.schema import FlywheelError, canonical_json
from flywheel.settings import Home
from flywheel.views.compress import Compression, compressed
from flywheel.views.formats import FORMATS
from flywheel.views.graded import Format, Graded, Unfit
from flywheel.views.steps import SHARED, STEPS, shared

CARD = "card.json"
REPEATED = "the same prompt of the same task"

Progress = Callable[[int, int], None]
# Files, and rows with the stem of the file that each belongs to.
Opened = Callable[[Path, str], Sink]
Filed = Iterator[tuple[str, dict[str, Any]]]


def rows(
    home: Home, chosen: Chosen, of: Format, budget: Budget | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[tuple[Graded, list[dict[str, Any]]]]:
    """The rows of a format, a trajectory at a time, in order of ids; `tell` is told why another has none."""
    tell = tell or (lambda reason: None)
    prompts: set[bytes] = set()
    number = 0
    for given in choose.graded(home, chosen):
        if budget is not None:
            given = _within(given, budget)
        try:
            made = of.rows(given, number)
        except Unfit as unfit:
            tell(str(unfit))
            continue
        if of.name == "trl-prompts":
            key = hashlib.sha256(canonical_json({k: v for k, v in made[0].items() if k != "id"}).encode()).digest()
            if key in prompts:
                tell(REPEATED)
                continue
            prompts.add(key)
        number += 1
        yield given, made


def lines(made: list[dict[str, Any]], of: Format) -> bytes:
    """Rows of a format as lines."""
    return b"".join(line(row, spaced=of.name == "hermes") for row in made)


def counted(home: Home, chosen: Chosen, of: Format) -> Card:
    """The card of the rows of a format as one file of lines, which is made to be counted, and not kept."""
    left_out = Counter(chosen.left_out)
    digest = hashlib.sha256()
    written = count = size = 0
    for _, made in rows(home, chosen, of, tell=lambda reason: left_out.update([reason])):
        data = lines(made, of)
        digest.update(data)
        written, count, size = written + 1, count + len(made), size + len(data)
    file = File(name=f"{of.name}.ndjson", rows=count, bytes=size, sha256=digest.hexdigest())
    return _card(of, chosen, written, left_out, (file,))


def trajectories(
    home: Home,
    chosen: Chosen,
    name: str,
    to: Path,
    *,
    license: str = UNSPECIFIED,
    packed: bool = False,
    columns: bool = False,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> Card:
    """Write trajectories in a format, and give the card. `packed` are gzip files, `columns` Parquet ones.

    Memory does not grow with the rows, but for their ids. A folder that an export stands in is replaced.

    Raises:
        FlywheelError: when there is no such format, or the folder is another's.
    """
    of = FORMATS[name]
    if columns and of.name != "steps":
        raise FlywheelError(f"{of.name} is JSON Lines; steps and step-records come as Parquet too")
    left_out = Counter(chosen.left_out)
    compressions: Counter[str] = Counter()
    total, written = chosen.keys.num_rows, 0

    def filed() -> Filed:
        nonlocal written
        unfit: Counter[str] = Counter()
        for given, made in rows(home, chosen, of, budget, lambda reason: unfit.update([reason])):
            written += 1
            for row in made:
                yield _stem(of, chosen, row), row
            if of.name == "steps":
                yield "trajectories", shared(given)
            if given.compression:
                yield "compression", given.compression
                compressions.update(_kinds(given.compression))
            if progress:
                progress(written + unfit.total(), total)
        left_out.update(unfit)

    def opened(folder: Path, stem: str) -> Sink:
        if columns and stem != "compression":
            return Columns(folder, stem, SHARED if stem == "trajectories" else STEPS)
        return Lines(folder, stem, packed=packed, spaced=of.name == "hermes")

    stems = {"hermes": ["trajectory_samples", "failed_trajectories"], "steps": ["steps", "trajectories"]}

    def card(files: tuple[File, ...]) -> Card:
        said = budget.said() if budget else {}
        made = _card(of, chosen, written, left_out, files)
        return msgspec.structs.replace(
            made, license=license, budget=said, compressed=dict(sorted(compressions.items()))
        )

    return written_to(to, stems.get(of.name, [chosen.said["split"]]), opened, filed, card)


def _card(of: Format, chosen: Chosen, written: int, left_out: Counter[str], files: tuple[File, ...]) -> Card:
    return Card(
        format=of.name,
        format_version=of.version,
        unit="trajectories",
        looked_at=written + left_out.total(),
        written=written,
        left_out=dict(left_out.most_common()),
        files=files,
        digest=digest_of(files),
        license=UNSPECIFIED,
        made_of=chosen.said,
        lost=dict(of.lost),
    )


def digest_of(files: tuple[File, ...]) -> str:
    """SHA-256 over the names and digests of files."""
    return hashlib.sha256(canonical_json([[file.name, file.sha256] for file in files]).encode()).hexdigest()


def written_to(
    to: Path,
    stems: list[str],
    opened: Opened,
    filed: Callable[[], Filed],
    card: Callable[[tuple[File, ...]], Card],
) -> Card:
    """Write rows to files beside their place, then the card, and rename the folder. Files of `stems` are always there.

    Raises:
        FlywheelError: when there is a folder that is no export.
    """
    if to.exists() and not (to / CARD).is_file() and any(to.iterdir()):
        raise FlywheelError(f"{to} is there and is no export: name another folder, or remove it")
    with artifacts.folder(to.absolute()) as beside:
        sinks = {stem: opened(beside, stem) for stem in stems}
        try:
            for stem, row in filed():
                if stem not in sinks:
                    sinks[stem] = opened(beside, stem)
                sinks[stem].add(row)
        finally:
            for sink in sinks.values():
                sink.close()
        files = tuple(
            File(
                name=sink.name,
                rows=sink.rows,
                bytes=(beside / sink.name).stat().st_size,
                sha256=artifacts.file_digest(beside / sink.name),
            )
            for sink in sinks.values()
        )
        made = card(files)
        (beside / "README.md").write_text(readme(made), encoding="utf-8")
        artifacts.write_json(beside / CARD, made)
    return made


def _within(given: Graded, budget: Budget) -> Graded:
    short, told = compressed(given.trajectory, budget.max_tokens, budget.count, budget.summarise)
    if told is None:
        return given
    return msgspec.structs.replace(given, trajectory=short, compression=msgspec.to_builtins(told))


def _kinds(told: dict[str, Any]) -> list[str]:
    """How a compression counts on the card."""
    of = msgspec.convert(told, Compression)
    kinds = [f"with a {of.by}"] if of.end > of.first else []
    return kinds + ["summaries that failed"] * bool(of.error) + ["over the budget even so"] * of.over


def _stem(of: Format, chosen: Chosen, row: dict[str, Any]) -> str:
    if of.name == "hermes":
        return "trajectory_samples" if row["completed"] else "failed_trajectories"
    return "steps" if of.name == "steps" else chosen.said["split"]
