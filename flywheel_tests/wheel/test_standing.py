"""Who served before a version was judged, and after it, whatever has happened since."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.release import history
from flywheel.release.history import Event
from flywheel.wheel.standing import incumbent, successor
from flywheel.wheel.versions import Version

MIDNIGHT = datetime(2026, 11, 9, tzinfo=UTC)


def version(number: int) -> Version:
    return Version(number, MIDNIGHT + timedelta(days=number))


def event(kind, policy: str, report: str | None) -> Event:
    return Event(kind=kind, policy_id=policy, digest="", previous=None, report=report, at=MIDNIGHT)


def promote(policy: str, number: int) -> Event:
    return event("promote", policy, version(number).key)


def keep(policy: str, number: int) -> Event:
    return event("keep", policy, version(number).key)


def rollback(policy: str, number: int) -> Event:
    """The policy that serves again, and the report by which it once came to."""
    return event("rollback", policy, version(number).key)


# The events of a history, and who served before and after v1, v2, v3.
HISTORIES = {
    "nothing yet": ([], [(None, None)] * 3),
    "each is promoted": (
        [promote("a", 1), promote("b", 2), promote("c", 3)],
        [(None, "a"), ("a", "b"), ("b", "c")],
    ),
    "the first is refused": ([keep("a", 1), promote("b", 2)], [(None, None), (None, "b"), ("b", "b")]),
    "a person promotes what was refused": (
        [keep("a", 1), promote("a", 1), keep("b", 2)],
        [(None, "a"), ("a", "a"), ("a", "a")],
    ),
    "the second is refused": ([promote("a", 1), keep("b", 2)], [(None, "a"), ("a", "a"), ("a", "a")]),
    "the second is taken back at once": (
        [promote("a", 1), promote("b", 2), rollback("a", 1), promote("c", 3)],
        [(None, "a"), ("a", "a"), ("a", "c")],
    ),
    "two are taken back": (
        [promote("a", 1), promote("b", 2), promote("c", 3), rollback("b", 2), rollback("a", 1)],
        [(None, "a"), ("a", "b"), ("b", "a")],
    ),
    "the second was never judged": ([promote("a", 1), promote("c", 3)], [(None, "a"), ("a", "a"), ("a", "c")]),
    "a report of another name": (
        [event("promote", "x", "before-the-wheel"), keep("a", 1), event("promote", "y", None)],
        [("x", "y"), ("y", "y"), ("y", "y")],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_who_serves_before_and_after_a_version(home, name):
    events, expected = HISTORIES[name]
    with history.alone(home):
        for told in events:
            history.append(home, told)
    found = [(incumbent(home, version(number)), successor(home, version(number))) for number in (1, 2, 3)]
    assert [tuple(e.policy_id if e else None for e in pair) for pair in found] == expected
