"""Writing: a source as files of its format, with a card; the folder is whole or absent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from flywheel import artifacts
from flywheel.export.card import UNSPECIFIED, Card, File, readme
from flywheel.export.files import Columns, Lines, Sink, line
from flywheel.export.source import Made, Source
from flywheel.schema import FlywheelError, canonical_json

CARD = "card.json"

Progress = Callable[[int, int], None]


def lines(made: Made, source: Source) -> bytes:
    """Rows of a format as lines."""
    return b"".join(line(row, spaced=_spaced(source)) for row in made.rows)


def counted(source: Source) -> Card:
    """The card of the rows of a source as one file of lines, which is made to be counted, and not kept."""
    left_out = Counter(source.left_out)
    digest = hashlib.sha256()
    written = count = size = 0
    for made in source.made(lambda reason, units: left_out.update({reason: units})):
        data = lines(made, source)
        digest.update(data)
        written, count, size = written + made.written, count + len(made.rows), size + len(data)
    file = File(name=f"{source.name}.ndjson", rows=count, bytes=size, sha256=digest.hexdigest())
    return _card(source, written, left_out, (file,))


def files(
    source: Source,
    to: Path,
    *,
    license: str = UNSPECIFIED,
    packed: bool = False,
    columns: bool = False,
    progress: Progress | None = None,
) -> Card:
    """Write a source into a folder, and give the card. `packed` are gzip files, `columns` Parquet ones.

    Files are written beside their place, then the card, and the folder is renamed. One that an export stands in is
    replaced. `progress` is told how many units are done, and of how many.

    Raises:
        FlywheelError: when the folder is another's, or the format has no columns.
    """
    if to.exists() and not (to / CARD).is_file() and any(to.iterdir()):
        raise FlywheelError(f"{to} is there and is no export: name another folder, or remove it")
    schemas = source.columns() if columns else {}
    unfit: Counter[str] = Counter()
    compressions: Counter[str] = Counter()
    written = 0
    with artifacts.folder(to.absolute()) as beside:
        sinks = {stem: _opened(beside, stem, source, schemas, packed=packed) for stem in source.stems()}
        try:
            for made in source.made(lambda reason, units: unfit.update({reason: units})):
                for stem, row in [*((source.stem(row), row) for row in made.rows), *made.beside]:
                    if stem not in sinks:
                        sinks[stem] = _opened(beside, stem, source, schemas, packed=packed)
                    sinks[stem].add(source.plain(row) if columns else row)
                written += made.written
                compressions.update(made.compressed)
                if progress:
                    progress(written + unfit.total(), source.total)
        finally:
            for sink in sinks.values():
                sink.close()
        told = tuple(
            File(
                name=sink.name,
                rows=sink.rows,
                bytes=(beside / sink.name).stat().st_size,
                sha256=artifacts.file_digest(beside / sink.name),
            )
            for sink in sinks.values()
        )
        card = _card(source, written, Counter(source.left_out) + unfit, told, license, compressions)
        (beside / "README.md").write_text(readme(card), encoding="utf-8")
        artifacts.write_json(beside / CARD, card)
    return card


def _opened(folder: Path, stem: str, source: Source, schemas: dict[str, pa.Schema], *, packed: bool) -> Sink:
    if stem in schemas:
        return Columns(folder, stem, schemas[stem])
    return Lines(folder, stem, packed=packed, spaced=_spaced(source))


def _spaced(source: Source) -> bool:
    return source.name == "hermes"


def _card(
    source: Source,
    written: int,
    left_out: Counter[str],
    files: tuple[File, ...],
    license: str = UNSPECIFIED,
    compressions: Counter[str] | None = None,
) -> Card:
    return Card(
        format=source.name,
        format_version=source.version,
        unit=source.unit,
        looked_at=written + left_out.total(),
        written=written,
        left_out=dict(left_out.most_common()),
        files=files,
        digest=hashlib.sha256(canonical_json([[file.name, file.sha256] for file in files]).encode()).hexdigest(),
        license=license,
        made_of=source.said,
        lost=dict(source.lost),
        budget=dict(source.budget),
        compressed=dict(sorted((compressions or Counter()).items())),
    )
