"""Who served before a version was judged."""

from __future__ import annotations

from itertools import takewhile

from flywheel.release import history, registry
from flywheel.release.history import Event
from flywheel.settings import Home
from flywheel.wheel.versions import Version


def incumbent(home: Home, version: Version) -> Event | None:
    """The promotion by which a champion served before a version's candidate was judged; None where none did.

    It is the same in a backfill years later: what was decided on the version and after it is left out.
    """
    before = list(takewhile(lambda event: event.report != version.key, history.read(home)))
    standing = registry.serving(before)
    return standing[-1] if standing else None
