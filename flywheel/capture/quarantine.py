"""The quarantine's way in: inputs that cannot be read, told without secrets, whoever they came from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flywheel.capture.importers.records import EXCERPT
from flywheel.capture.redaction.redact import redactor
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.schema import Quarantined
from flywheel.settings import Home

# An input's line (from 1), where it has one; what is wrong with it, and how it begins.
Bad = tuple[int | None, str, str]


def refused(home: Home, workspace: str, source: str, bad: Sequence[Bad], now: datetime) -> list[Quarantined]:
    """Inputs that cannot be read, without secrets: what goes into quarantine.

    Of the beginning `EXCERPT` characters are kept. One that comes again is the same, whatever comes with it: each has a
    redactor of its own.
    """
    rows = []
    for line, error, excerpt in bad:
        clean = redactor(home, workspace)
        rows.append(
            Quarantined(
                workspace=workspace,
                source=clean.identifier(source),
                line=line,
                error=clean.text(error),
                excerpt=clean.excerpt(excerpt[:EXCERPT], EXCERPT),
                arrived_at=now,
            )
        )
    return rows


def set_aside(home: Home, workspace: str, source: str, bad: Sequence[Bad], now: datetime) -> int:
    """Store inputs that cannot be read, told as `refused` takes them; returns how many were not there yet."""
    arrivals = Arrivals(home, workspace)
    with arrivals.locked():
        return arrivals.add_quarantined(refused(home, workspace, source, bad, arrivals.moment(now, now)))
