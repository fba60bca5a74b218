"""Sources: what goes out row by row, wherever it comes from; it is counted, cut into pages, streamed and written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import msgspec
import pyarrow as pa

from flywheel.schema import FlywheelError
from flywheel.views.graded import Row

# Told that so many of the source's units have no row, and why.
Tell = Callable[[str, int], None]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that belong together: how many units have part in them, and which trajectory and verdict they are of.

    `beside` are rows of other files, by their stems; `compressed` are the ways in which a trajectory was shortened.
    """

    written: int
    rows: list[Row]
    beside: list[tuple[str, Row]] = []
    compressed: list[str] = []


class Source(ABC):
    """Rows of a format, and what a card says of them.

    name: str, of the format; `version`: by which description it is written.
    unit: str, what is looked at, written and left out; `total` of them are left once `left_out` (by reason) are out.
    said: what it is made of; `lost`: what becomes of each field that the format does not carry.
    budget: what a card says of a budget of tokens.
    """

    name: str
    version: str
    unit: str = "trajectories"
    total: int
    said: dict[str, Any]
    left_out: dict[str, int]
    lost: Mapping[str, str]
    budget: Mapping[str, Any] = {}

    @abstractmethod
    def made(self, tell: Tell) -> Iterator[Made]:
        """The rows, in a fixed order, a few at a time; `tell` is told what else is left out.

        Raises:
            FlywheelError: when what they are made of is missing or damaged.
        """

    @abstractmethod
    def page(self, after: str | None, limit: int | None) -> tuple[Self, str | None]:
        """The next so many behind a cursor, and the cursor of what follows them, if anything does.

        Raises:
            FlywheelError: when it is no cursor of this source.
        """

    def stems(self) -> list[str]:
        """The names of the files that are there even where they are empty, without their endings; the first leads."""
        return [self.said["split"]]

    def stem(self, row: Row) -> str:
        """Which file a row belongs to."""
        return self.stems()[0]

    def columns(self) -> dict[str, pa.Schema]:
        """The schemas of files that may be Parquet, by stem.

        Raises:
            FlywheelError: when the format is one of lines.
        """
        raise FlywheelError(f"{self.name} is JSON Lines; steps and step-records come as Parquet too")

    def plain(self, row: Row) -> Row:
        """A row as a Parquet file has it."""
        return row
