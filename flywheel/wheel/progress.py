"""Progress of a stage's work: told as a library's log lines, so that any front can show it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

# Seconds between two lines of one piece of work.
EVERY = 5.0

Advance = Callable[[int, int | None], None]


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Advance]:
    """Give a function that takes how much is done, and of how much where that is known only now."""
    last = time.monotonic()

    def advance(done: int, of: int | None) -> None:
        nonlocal last
        whole = of or total
        if time.monotonic() - last >= EVERY or (whole and done >= whole):
            last = time.monotonic()
            log.info("%s %s", title, f"{done}/{whole} ({done / whole:.0%})" if whole else done)

    yield advance
