"""Times on the command line: how they may be written; one without a zone is in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

# For options of typer: with and without a zone, down to microseconds as our own tables and JSON have them.
MOMENTS = [
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%S.%f%z",
]


def utc(moment: datetime) -> datetime:
    """A moment that was written so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
