"""The ledger's way in: outcomes as people, scripts and services tell them, one by one or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Annotated

import msgspec

from flywheel.capture import workspaces
from flywheel.capture.feedback.keys import Keys
from flywheel.capture.recorders.recorder import utc_now
from flywheel.capture.redaction.redact import redactor
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome, canonical_json
from flywheel.settings import Home

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
ShortText = Annotated[str, msgspec.Meta(max_length=512)]


class Telling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome as somebody tells it.

    `value` is in the signal's own units; true and false are 1 and 0. `observed_at` is an ISO 8601 time with a zone:
    when it was true; without it, now, or, with a `key`, when that key was first told. `step_index` counts from 0.
    """

    trajectory_id: Name
    signal: Name
    value: bool | float
    source: ShortText = ""
    checker_version: ShortText = ""
    step_index: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    observed_at: ShortText | None = None
    comment: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    key: ShortText = ""


class Heard(msgspec.Struct, frozen=True):
    """An outcome that was made of a telling, redacted; `again` when its key was told before."""

    outcome: Outcome
    again: bool


def hear(
    home: Home,
    workspace: str,
    tellings: Sequence[Telling],
    now: datetime,
    *,
    source: str = "api",
    zone: tzinfo | None = None,
    keyed: bool = False,
) -> list[Heard | FlywheelError]:
    """Make outcomes of tellings, redacted; in the place of one that makes none, an error that says why.

    `source` is theirs who name none; `zone` that of times which have none (else they are refused). With `keyed` a
    telling without a time and a key is its own key: told again, it is the same fact.
    """
    heard: list[Heard | FlywheelError | None] = []
    waiting: list[tuple[int, str, str, Outcome]] = []
    for position, telling in enumerate(tellings):
        try:
            outcome = _outcome(telling, workspace, now, source, zone)
        except FlywheelError as error:
            heard.append(error)
            continue
        content = canonical_json(
            msgspec.to_builtins(msgspec.structs.replace(telling, key="", comment="", value=outcome.value))
        )
        key = telling.key or (f"\x1f{content}" if keyed and telling.observed_at is None else "")
        if key:
            waiting.append((position, key, content, outcome))
            heard.append(None)
        else:
            heard.append(Heard(_redacted(home, outcome), again=False))
    if waiting:
        found = Keys(home, workspace).first([(key, content, now) for _, key, content, _ in waiting])
        for (position, key, _, outcome), (first, again, same) in zip(waiting, found, strict=True):
            if not same:
                heard[position] = FlywheelError(
                    f"the key {key!r} was told of another outcome before; give each outcome a key of its own"
                )
                continue
            if tellings[position].observed_at is None:
                outcome = msgspec.structs.replace(outcome, observed_at=first)
            heard[position] = Heard(_redacted(home, outcome), again)
    return [one for one in heard if one is not None]


def _outcome(telling: Telling, workspace: str, now: datetime, source: str, zone: tzinfo | None) -> Outcome:
    return checked(
        Outcome(
            workspace=workspace,
            trajectory_id=telling.trajectory_id,
            signal=telling.signal,
            value=float(telling.value),
            source=telling.source or source,
            checker_version=telling.checker_version,
            step_index=telling.step_index,
            observed_at=moment(telling.observed_at, zone) if telling.observed_at else now,
            arrived_at=now,
            comment=telling.comment,
        )
    )


def moment(text: str, zone: tzinfo | None = None) -> datetime:
    """An ISO 8601 time.

    Raises:
        FlywheelError: when it is none, or tells no zone and none is given.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise FlywheelError(f"{text!r} is no time; write it as in 2026-11-02T14:30:00+01:00") from error
    if at.tzinfo is None and zone is None:
        raise FlywheelError(f"{text!r} has no time zone; write it as in 2026-11-02T14:30:00Z or ...+01:00")
    try:
        return at if at.tzinfo else at.replace(tzinfo=zone)
    except (ValueError, OverflowError) as error:
        raise FlywheelError(f"{text!r} is no time that can be kept: {error}") from error


def _redacted(home: Home, outcome: Outcome) -> Outcome:
    return redactor(home, outcome.workspace).outcome(outcome)


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What became of outcomes: `added`, `already_there`, and `erased`: about what was forgotten, and not kept.

    `unknown` are the ids, of those that were added or there, that no stored trajectory has (yet).
    """

    added: int
    already_there: int
    erased: int
    unknown: frozenset[str]


def append(home: Home, workspace: str, outcomes: Sequence[Outcome], now: datetime) -> Added:
    """Append outcomes to the ledger, each once; they arrive now."""
    arrivals = Arrivals(home, workspace)
    with arrivals.locked():
        ids = sorted({outcome.trajectory_id for outcome in outcomes})
        gone = arrivals.erased(ids)
        kept = [outcome for outcome in outcomes if outcome.trajectory_id not in gone]
        at = arrivals.moment(now, now)
        added = arrivals.add_outcomes([msgspec.structs.replace(outcome, arrived_at=at) for outcome in kept])
        return Added(
            added=added,
            already_there=len(kept) - added,
            erased=len(outcomes) - len(kept),
            unknown=frozenset(arrivals.new_trajectories(ids)),
        )


def tell(
    home: Home,
    workspace: str,
    trajectory_id: str,
    signal: str,
    value: float,
    *,
    source: str = "person",
    observed_at: datetime | None = None,
    step_index: int | None = None,
    comment: str = "",
    now: datetime | None = None,
) -> Outcome:
    """Append an outcome to the ledger; an error where the workspace has no such trajectory stored any more."""
    workspaces.require(home, workspace)
    now = now or utc_now()
    arrivals = Arrivals(home, workspace)
    outcome = Outcome(
        workspace=workspace,
        trajectory_id=trajectory_id,
        signal=signal,
        value=value,
        source=source,
        step_index=step_index,
        observed_at=observed_at or now,
        arrived_at=now,
        comment=comment,
    )
    # A trajectory is stored under its name without secrets: it is looked for by that.
    outcome = _redacted(home, checked(outcome))
    with arrivals.locked():
        if arrivals.erased([outcome.trajectory_id]):
            raise FlywheelError(
                f"trajectory {trajectory_id!r} of workspace {workspace!r} was erased; nothing more is kept"
            )
        if arrivals.new_trajectories([outcome.trajectory_id]):
            raise FlywheelError(
                f"workspace {workspace!r} has no stored trajectory {trajectory_id!r}; what a recorder wrote is stored "
                f"by: flywheel settle --workspace {workspace}"
            )
        outcome = msgspec.structs.replace(outcome, arrived_at=arrivals.moment(now, now))
        arrivals.add_outcomes([outcome])
    return outcome
