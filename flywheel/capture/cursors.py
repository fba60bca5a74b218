"""Cursors: where a page of rows ended, in the order of arrival and then of a key, as the name of the next page."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import msgspec

from flywheel.schema import FlywheelError

Place = tuple[datetime, str]


def encoded(place: Place) -> str:
    """The cursor of the page that follows a row."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def decoded(cursor: str | None) -> Place | None:
    """The row that a page follows; None for the first one.

    Raises:
        FlywheelError: when that is no cursor.
    """
    if cursor is None:
        return None
    try:
        at, key = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=Place)
        return at.astimezone(UTC), key
    except (ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise FlywheelError("this is no cursor: send back what `next` was, or leave it out to begin anew") from error
