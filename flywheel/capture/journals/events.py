"""Events: what a journal has lines of, and the lines that they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.capture.importers.spans import Span
from flywheel.capture.journals.exchanges import Exchange
from flywheel.schema import EndState, FlywheelError, Outcome, Quarantined, Step, Trajectory


class Began(msgspec.Struct, frozen=True, tag_field="event", tag="began"):
    """A trajectory begins: all that is known of it but its steps."""

    trajectory: Trajectory


class Said(msgspec.Struct, frozen=True, tag_field="event", tag="said", omit_defaults=True):
    """A step was taken; `about` is what the trajectory's metadata says otherwise from here on."""

    id: str
    at: datetime
    step: Step
    about: dict[str, Any] = {}


class Ended(msgspec.Struct, frozen=True, tag_field="event", tag="ended", omit_defaults=True):
    """A trajectory is over; `error` is the exception that ended a failed one, `about` as in `Said`."""

    id: str
    at: datetime
    state: EndState
    error: str = ""
    about: dict[str, Any] = {}


class Whole(msgspec.Struct, frozen=True, tag_field="event", tag="whole"):
    """A complete trajectory in one line."""

    trajectory: Trajectory


class Told(msgspec.Struct, frozen=True, tag_field="event", tag="told"):
    """An outcome became known."""

    outcome: Outcome


class Exchanged(msgspec.Struct, frozen=True, tag_field="event", tag="exchanged"):
    """A request to a model, and what came back."""

    exchange: Exchange


class Spanned(msgspec.Struct, frozen=True, tag_field="event", tag="spanned"):
    """A span of OpenTelemetry came in; `agent` is who sent it, by the resource's attributes."""

    at: datetime
    span: Span
    agent: str = ""


class Closed(msgspec.Struct, frozen=True, tag_field="event", tag="closed"):
    """Somebody said that a thread (of exchanges, or the trace of spans) is over: it need not be quiet first."""

    thread: str
    at: datetime


class SetAside(msgspec.Struct, frozen=True, tag_field="event", tag="set_aside"):
    """An input came that could not be read."""

    input: Quarantined


Event = Began | Said | Ended | Whole | Told | Exchanged | Spanned | Closed | SetAside
DECODER = msgspec.json.Decoder(Event)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what it raises where a line is no event


def encoded(events: Sequence[Event]) -> bytes:
    """Events as lines.

    Raises:
        FlywheelError: when one cannot be written as JSON.
    """
    try:
        return b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FlywheelError(f"this cannot be recorded: {error}") from error


def decoded(line: bytes) -> Event | str:
    """The event that a line is, or why it is none."""
    try:
        return DECODER.decode(line)
    except UNREADABLE as error:
        return str(error)
