"""Importers: one module a format, each with a detect and a read; other packages add theirs by an entry point."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

import msgspec

from flywheel.capture.importers import (
    alpaca,
    anthropic_messages,
    api_calls,
    claude_code,
    documents,
    hermes,
    intercode,
    langfuse,
    openai_chat,
    openai_responses,
    otlp,
    sharegpt,
    swe_agent,
    tau2,
    tau_bench,
)
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import FlywheelError

HEAD = 2**18  # bytes of a file that are enough to tell its format
LONG = 2**23  # and where they are of one line
GROUP = "flywheel.importers"  # of the entry points by which other packages add formats


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
    api_calls,
    openai_responses,
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


class Unknown(FlywheelError):
    """A file of no known format."""


class Known(msgspec.Struct, frozen=True):
    """The formats that there are: those of other packages first, since they are the most particular of all.

    `broken` tells of each entry point that cannot be used why not; `packages` who brought a format.
    """

    importers: list[Importer]
    packages: dict[str, str]
    broken: list[str]

    @property
    def told(self) -> str:
        """Their names for a message, with what is broken."""
        return "; ".join([", ".join(importer.NAME for importer in self.importers), *self.broken])

    def importer_of(self, path: Path, format: str = "auto") -> Importer:
        """The importer of a format by name; with `auto`, the first that knows a file by its beginning.

        An importer of another package whose `detect` fails is passed over, and told in `broken`.
        """
        if format != "auto":
            for importer in self.importers:
                if format == importer.NAME:
                    return importer
            raise FlywheelError(f"there is no format {format!r}; the formats are: {self.told} (or auto)")
        head = documents.head(path, HEAD)
        if b"\n" not in head.rstrip() and len(head) == HEAD:  # the first record goes on
            head = documents.head(path, LONG)
        head = head.removeprefix(b"\xef\xbb\xbf")
        if not head.strip():
            raise documents.Unreadable(f"{path} is empty: there is nothing to ingest")
        for importer in list(self.importers):
            try:
                if importer.detect(head):
                    return importer
            except Exception as error:
                if importer.NAME not in self.packages:
                    raise
                self.importers.remove(importer)
                self.broken.append(_broken(self.packages[importer.NAME], importer.NAME, error))
        raise Unknown(
            f"{path} is of no known format; the formats are: {self.told}. If it is one, name it with --format"
        )


def known() -> Known:
    """The formats of this package and of others. Finding the latter takes some milliseconds."""
    found = Known([], {}, [])
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        package = entry.dist.name if entry.dist else entry.value
        try:
            importer = _loaded(entry)
            if importer.NAME in (*FORMATS, *found.packages):
                raise ValueError(f"there is a format {importer.NAME!r} already")
        except Exception as error:  # whatever a stranger's module does, the others go on
            found.broken.append(_broken(package, entry.name, error))
        else:
            found.importers.append(importer)
            found.packages[importer.NAME] = package
    found.importers.extend(IMPORTERS)
    return found


def importer_of(path: Path, format: str = "auto") -> Importer:
    """As `Known.importer_of`, of all formats that there are."""
    return known().importer_of(path, format)


def _loaded(entry: EntryPoint) -> Importer:
    importer = entry.load()
    missing = [name for name in ("NAME", "detect", "read") if not hasattr(importer, name)]
    if missing or not isinstance(importer.NAME, str) or entry.name != importer.NAME:
        told = f"it has no {' and no '.join(missing)}" if missing else f"its NAME is {importer.NAME!r}"
        raise ValueError(f"{told}: an importer has a NAME (that of its entry point), a detect and a read")
    return importer


def _broken(package: str, name: str, error: Exception) -> str:
    return f"the importer {name!r} of {package} cannot be used ({type(error).__name__}: {error})"
