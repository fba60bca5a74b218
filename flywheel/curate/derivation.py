"""Derivations: what follows from a captured row alone, computed a few rows at a time from the files of captures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel import artifacts
from flywheel.schema import TRAJECTORIES, FlywheelError

# What every derived row is known by. `id` is no primary key: captures may hold one id in two files.
KEYS = pa.schema([("id", pa.string()), ("content_digest", pa.string()), ("file", pa.string())])

# What is computed at a time.
BATCH_ROWS = 8192
BATCH_BYTES = 32 << 20


class Derivation(msgspec.Struct, frozen=True, kw_only=True):
    """What is computed from each captured row, and from nothing else.

    `columns` are the columns of captures that `compute` is given; it answers with one row of `schema` for each row,
    in their order. `recipe` changes whenever equal content would give other values: it is part of the table's name,
    so a new recipe is a new table and the old one stays as it is.
    """

    name: str
    recipe: str
    columns: tuple[str, ...]
    schema: pa.Schema
    compute: Callable[[pa.Table], pa.Table]

    @property
    def table(self) -> str:
        """The name of the table's folder without its suffix."""
        return f"{self.name}-{hashlib.sha256(self.recipe.encode()).hexdigest()[:12]}"

    @property
    def rows(self) -> pa.Schema:
        """The columns of the table: id, content_digest, file, then those of `schema`."""
        return pa.schema([*KEYS, *self.schema])


class Computed:
    """The derived rows of captures files, a batch at a time, and the error that ended them early."""

    def __init__(self, derivation: Derivation, files: list[Path], told: Callable[[int], None]) -> None:
        self.derivation = derivation
        self.files = files
        self.told = told
        self.error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.derivation.rows, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        # Of what is raised here, an interrupt too, Lance passes on the text alone.
        try:
            for file in self.files:
                for batch in _read(file, self.derivation.columns):
                    yield from _derived(self.derivation, batch, file).to_batches()
                    self.told(len(batch))
        except BaseException as error:
            self.error = error
            raise


def _read(file: Path, columns: Iterable[str]) -> Iterator[pa.Table]:
    """The rows of a captures file in columns of `TRAJECTORIES`, a few megabytes at a time."""
    wanted = pa.schema([TRAJECTORIES.field(name) for name in dict.fromkeys(("id", "content_digest", *columns))])
    with _captured(file), pq.ParquetFile(artifacts.source(file), pre_buffer=False, buffer_size=1 << 20) as parquet:
        metadata = parquet.metadata
        size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(size, 1)))
        for batch in parquet.iter_batches(rows, columns=wanted.names):
            yield pa.Table.from_batches([batch]).select(wanted.names).cast(wanted)


def rows_of(file: Path) -> int:
    """How many rows a captures file holds."""
    with _captured(file):
        return pq.read_metadata(artifacts.source(file)).num_rows


@contextmanager
def _captured(file: Path) -> Iterator[None]:
    """What goes wrong while a captures file is read, as an error that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise FlywheelError(
            f"the captures file {file} cannot be read ({first_line(error)}); restore it from a copy, or remove it "
            "and import its rows again"
        ) from error


def _derived(derivation: Derivation, batch: pa.Table, file: Path) -> pa.Table:
    """The rows of a batch of a captures file, in the columns of the derived table."""
    try:
        computed = derivation.compute(batch.select(derivation.columns))
        if len(computed) != len(batch):
            raise ValueError(f"{len(computed)} rows for {len(batch)}")
        computed = computed.select(derivation.schema.names).cast(derivation.schema)
    except Exception as error:
        raise FlywheelError(
            f"{derivation.name!r} cannot be derived from {file} ({type(error).__name__}: {first_line(error)})"
        ) from error
    names = pa.repeat(pa.scalar(file.name, pa.string()), len(batch))
    columns = [batch["id"], batch["content_digest"], names, *computed.columns]
    return pa.Table.from_arrays(columns, schema=derivation.rows)


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error) or type(error).__name__).splitlines()[0]
