"""Who served before a version was judged, and who serves after it."""

from __future__ import annotations

from itertools import takewhile

from flywheel.release import history, registry
from flywheel.release.history import Event
from flywheel.settings import Home
from flywheel.wheel.versions import Version, among


def incumbent(home: Home, version: Version) -> Event | None:
    """The promotion by which a champion served before a version's candidate was judged; None where none did.

    It is the same in a backfill years later: what was decided on the version and on later ones is left out.
    """
    return _last(home, before=version.number)


def successor(home: Home, version: Version) -> Event | None:
    """The promotion by which a champion serves after a version, until a later one is judged; None where none does."""
    return _last(home, before=version.number + 1)


def _last(home: Home, before: int) -> Event | None:
    """The newest promotion that stood when the first version of this number or a higher one was judged."""
    events = takewhile(lambda event: not _judges(event, before), history.read(home))
    standing = registry.serving(list(events))
    return standing[-1] if standing else None


def _judges(event: Event, number: int) -> bool:
    """Whether an event decides on a version of this number or a higher one; a rollback names an older report."""
    return event.kind != "rollback" and any(judged.number >= number for judged in among([event.report or ""]))
