"""A simulated past in the making: while its days are being recorded, nothing else may close them.

Settling closes time up to now. A simulated week lies in the past, so a settle of today in between would let its
remaining records arrive today.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flywheel import artifacts
from flywheel.settings import Home


def _mark(home: Home) -> Path:
    return home.root / "simulation.unfinished"


@contextmanager
def recording(home: Home) -> Iterator[None]:
    """Mark the data folder until the block ends well: a killed simulation stays under way until it is taken up."""
    artifacts.write_bytes(_mark(home), b"A simulated past is being recorded. Go on with: flywheel demo\n")
    yield
    _mark(home).unlink()


def under_way(home: Home) -> bool:
    """Whether a simulated past has begun to be recorded and has not come to its end."""
    return _mark(home).exists()
