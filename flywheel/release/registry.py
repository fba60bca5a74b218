"""The registry: which policy serves, how it came to serve, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from flywheel.evaluate import policy as policies
from flywheel.release import history
from flywheel.release.gate import Verdict
from flywheel.release.history import Event
from flywheel.schema import FlywheelError
from flywheel.settings import Home

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def serving(events: list[Event]) -> list[Event]:
    """The promotions still standing, the champion's last: a rollback takes the newest away."""
    standing: list[Event] = []
    for event in events:
        if event.kind == "promote":
            standing.append(event)
        elif event.kind == "rollback":
            standing.pop()
    return standing


def champion(home: Home) -> Event | None:
    """The promotion by which the champion serves; None before the first."""
    standing = serving(history.read(home))
    return standing[-1] if standing else None


def record(
    home: Home,
    verdict: Verdict,
    *,
    policy_id: str,
    digest: str,
    report: str,
    champion_id: str | None = None,
    clock: Clock = _now,
) -> Event:
    """Write down what a verdict led to: its policy is promoted, or kept out. Told the same again, it adds nothing.

    `policy_id` and `digest` are those of the candidate that was judged in `report`; `champion_id` is the policy
    that it was compared with.

    Raises:
        FlywheelError: when the verdict does not bear out a promotion, the policy's files are not those that were
            judged, or another champion has come to serve since the comparison.
    """
    with history.alone(home):
        events = history.read(home)
        kind = "promote" if verdict.promote else "keep"
        for event in events:
            if (event.kind, event.report, event.policy_id) == (kind, report, policy_id):
                return event
        standing = serving(events)
        now_serving = standing[-1].policy_id if standing else None
        if verdict.promote:
            _check(verdict, now_serving, champion_id)
        event = Event(
            kind=kind,
            policy_id=policy_id,
            digest=digest,
            previous=now_serving,
            report=report,
            reasons=verdict.reasons,
            at=clock(),
        )
        verify(home, event)
        history.append(home, event)
        return event


def _check(verdict: Verdict, now_serving: str | None, champion_id: str | None) -> None:
    """The registry's own look: a check elsewhere stops only the run that it is part of."""
    if not verdict.reasons or not all(r.passed for r in verdict.reasons):
        raise FlywheelError(f"the verdict on {verdict.candidate} does not bear out a promotion: {verdict.why}")
    if now_serving != champion_id:
        raise FlywheelError(
            f"{verdict.candidate} was compared with {champion_id or 'no champion'}, but {now_serving or 'none'} "
            "serves now: evaluate it against that"
        )


def rollback(home: Home, *, clock: Clock = _now) -> Event:
    """Let the previous champion serve again.

    Raises:
        FlywheelError: when there is none, or its folder is gone or no longer what was promoted.
    """
    with history.alone(home):
        standing = serving(history.read(home))
        if len(standing) < 2:
            only = f"{standing[0].policy_id} is the first champion" if standing else "there is no champion"
            raise FlywheelError(f"nothing to roll back to: {only}")
        present, previous = standing[-1], standing[-2]
        verify(home, previous)
        event = Event(
            kind="rollback",
            policy_id=previous.policy_id,
            digest=previous.digest,
            previous=present.policy_id,
            report=previous.report,
            at=clock(),
        )
        history.append(home, event)
        return event


def verify(home: Home, event: Event) -> policies.Policy:
    """The policy of an event, as it lies on disk.

    Raises:
        FlywheelError: when it is not there, or its files are not those that were judged.
    """
    policy = policies.find(home, event.policy_id)
    if policy.digest != event.digest:
        raise FlywheelError(
            f"{policy.model} has digest {policy.digest[:12]}, but {event.digest[:12]} was judged: "
            "restore the folder, or evaluate the policy again"
        )
    return policy
