"""Importers: one module a format, each with a detect and a read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from flywheel.capture.importers import (
    alpaca,
    anthropic_messages,
    claude_code,
    documents,
    hermes,
    intercode,
    langfuse,
    openai_chat,
    otlp,
    sharegpt,
    swe_agent,
    tau2,
    tau_bench,
)
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import FlywheelError

HEAD = 2**18  # bytes of a file that are enough to tell its format


class Importer(Protocol):
    """What a format's module offers."""

    @property
    def NAME(self) -> str: ...

    def detect(self, head: bytes) -> bool: ...

    def read(self, path: Path, workspace: str, arrived_at: datetime) -> Iterator[Record | Bad]: ...


# In the order in which they are asked: the most particular first.
IMPORTERS: tuple[Importer, ...] = (
    claude_code,
    langfuse,
    otlp,
    tau2,
    tau_bench,
    intercode,
    swe_agent,
    anthropic_messages,
    hermes,
    sharegpt,
    openai_chat,
    alpaca,
)
FORMATS = tuple(importer.NAME for importer in IMPORTERS)


def importer_of(path: Path, format: str = "auto") -> Importer:
    """The importer of a format by name; with `auto`, the first that knows a file by its beginning."""
    known = ", ".join(FORMATS)
    if format != "auto":
        for importer in IMPORTERS:
            if format == importer.NAME:
                return importer
        raise FlywheelError(f"there is no format {format!r}; the formats are: {known} (or auto)")
    head = documents.head(path, HEAD)
    if not head.strip():
        raise FlywheelError(f"{path} is empty: there is nothing to ingest")
    for importer in IMPORTERS:
        if importer.detect(head.removeprefix(b"\xef\xbb\xbf")):
            return importer
    raise FlywheelError(f"{path} is of no known format; the formats are: {known}. If it is one, name it with --format")
