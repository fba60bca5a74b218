"""Records: what an importer makes of a piece of a file, a trajectory with its outcomes or a reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from flywheel.capture.importers import halves
from flywheel.capture.importers.documents import Piece
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome, Trajectory, stable_id

EXCERPT = 200  # characters of a bad record that are kept in quarantine


class Record(msgspec.Struct, frozen=True):
    """A trajectory and its outcomes; `end` is how far into the file it reaches, in bytes."""

    trajectory: Trajectory
    outcomes: tuple[Outcome, ...]
    end: int


class Bad(msgspec.Struct, frozen=True):
    """A record that cannot be read: its line, what is wrong, how it begins, and how far into the file it reaches.

    One without a line is the whole file, or the rest of it.
    """

    line: int | None
    error: str
    excerpt: str
    end: int


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record comes from, and the way to make the trajectory and outcomes of it."""

    format: str
    workspace: str
    arrived_at: datetime
    path: Path
    line: int
    index: int
    digest: str

    @property
    def stem(self) -> str:
        """The file's name without `.json`, `.jsonl` and `.gz`: what many logs are told apart by."""
        return Path(self.path.name.removesuffix(".gz")).stem

    def trajectory(self, *, also: str = "", metadata: dict[str, Any], **fields: Any) -> Trajectory:
        """A trajectory named by the record's own content, and `also` by what the record leaves out of itself."""
        about = {name: value for name, value in metadata.items() if value is not None}
        return Trajectory(
            id=stable_id(self.format, self.digest, also),
            workspace=self.workspace,
            arrived_at=self.arrived_at,
            # The folder and the name: what leads a person back, and is the same on every machine.
            source="/".join(self.path.parts[-2:]),
            source_line=self.line,
            metadata=msgspec.json.encode(
                {**about, "record": self.index, "record_sha256": self.digest}, order="sorted"
            ).decode(),
            **fields,
        )

    def outcome(
        self,
        trajectory: Trajectory,
        signal: str,
        value: float,
        *,
        step_index: int | None = None,
        checker_version: str = "",
        observed_at: datetime | None = None,
        comment: str = "",
    ) -> Outcome:
        """An outcome that the record tells of; observed when it arrived, unless the record says when."""
        return Outcome(
            workspace=self.workspace,
            trajectory_id=trajectory.id,
            signal=signal,
            value=float(value),
            source=self.format,
            checker_version=checker_version,
            step_index=step_index,
            observed_at=observed_at or self.arrived_at,
            arrived_at=self.arrived_at,
            comment=comment,
        )


Made = tuple[Trajectory, list[Outcome]]


def read(
    pieces: Iterable[Piece],
    make: Callable[[Any, Origin], Made],
    *,
    format: str,
    path: Path,
    workspace: str,
    arrived_at: datetime,
) -> Iterator[Record | Bad]:
    """Make a record of each piece; what cannot be decoded, or is not of the format, is `Bad` and the rest goes on."""
    yield from read_each(
        pieces,
        lambda raw, origin: [make(raw, origin)],
        format=format,
        path=path,
        workspace=workspace,
        arrived_at=arrived_at,
    )


def read_each(
    pieces: Iterable[Piece],
    make: Callable[[Any, Origin], list[Made]],
    *,
    format: str,
    path: Path,
    workspace: str,
    arrived_at: datetime,
) -> Iterator[Record | Bad]:
    """As `read`, for pieces that hold several trajectories each: all of a piece, or one `Bad`."""
    for index, piece in enumerate(pieces):
        try:
            if piece.cut:
                raise ValueError("the file breaks off or goes on where a record should end")
            raw = halves.decoded(piece.data)
            digest = hashlib.sha256(msgspec.json.encode(raw, order="sorted")).hexdigest()
            origin = Origin(
                format=format,
                workspace=workspace,
                arrived_at=arrived_at,
                path=path,
                line=piece.line,
                index=index,
                digest=digest,
            )
            made = [Record(checked(t), tuple(outcomes), piece.end) for t, outcomes in make(raw, origin)]
        except (ValueError, OverflowError, RecursionError, FlywheelError) as error:
            yield Bad(
                piece.line,
                f"record {index + 1}: {error}",
                piece.data[:EXCERPT].decode("utf-8", "replace"),
                piece.end,
            )
            continue
        yield from made


def utc(text: str | None) -> datetime | None:
    """An ISO time; one without a zone is taken for UTC, since the files do not say."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
