"""Files of an export: JSON Lines, plain or gzip, and Parquet; the same rows give the same bytes."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

# Bytes of text that are written, or packed as one member of a gzip file, at once.
CHUNK = 2**22
# Rows of one row group of a Parquet file.
GROUP = 8192


class Sink(Protocol):
    """A file that rows are added to, one after the other."""

    name: str
    rows: int

    def add(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Lines:
    """One JSON object a line. A gzip file is of several members, without a time in it.

    `spaced` prints as Python does by default, which is how Hermes' files look.
    """

    def __init__(self, folder: Path, stem: str, *, packed: bool, spaced: bool = False) -> None:
        self.name = f"{stem}.jsonl.gz" if packed else f"{stem}.jsonl"
        self.rows = 0
        self._packed, self._spaced = packed, spaced
        self._file = (folder / self.name).open("wb")
        self._waiting = bytearray()

    def add(self, row: dict[str, Any]) -> None:
        self._waiting += line(row, spaced=self._spaced)
        self.rows += 1
        if len(self._waiting) >= CHUNK:
            self._write()

    def close(self) -> None:
        # A gzip file of nothing has a member all the same.
        self._write(last=self._packed and not self._file.tell())
        self._file.close()

    def _write(self, *, last: bool = False) -> None:
        if self._waiting or last:
            self._file.write(gzip.compress(self._waiting, mtime=0) if self._packed else self._waiting)
            self._waiting.clear()


class Columns:
    """A Parquet file of a schema."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema) -> None:
        self.name = f"{stem}.parquet"
        self.rows = 0
        self._schema = schema
        self._writer = pq.ParquetWriter(folder / self.name, schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) >= GROUP:
            self._write()

    def close(self) -> None:
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._waiting:
            plain = msgspec.to_builtins(self._waiting, builtin_types=(datetime.datetime,))
            self._writer.write_table(pa.Table.from_pylist(plain, schema=self._schema))
            self._waiting.clear()


def line(row: dict[str, Any], *, spaced: bool = False) -> bytes:
    """A row as one line."""
    if spaced:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    return msgspec.json.encode(row) + b"\n"
