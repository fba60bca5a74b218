"""The stages of one version, in the order of a turn; each gives the facts of what it made or found made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from flywheel.capture.settle import settle
from flywheel.corpus import snapshot
from flywheel.curate.spec import Spec
from flywheel.outcomes.policy import checked
from flywheel.release import history, registry
from flywheel.release.history import Event
from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.cycle import timed
from flywheel.wheel.facts import Facts
from flywheel.wheel.versions import Version


def incumbent(home: Home, version: Version) -> Event | None:
    """The promotion by which a champion served before this version was judged; the same in a later backfill."""
    before = list(takewhile(lambda event: event.report != version.key, history.read(home)))
    standing = registry.serving(before)
    return standing[-1] if standing else None
