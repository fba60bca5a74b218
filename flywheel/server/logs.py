"""The server's log: a line an event on standard error, for people or as JSON, and nothing of what anybody wrote."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime

import msgspec

from flywheel.schema import FlywheelError


def told(error: BaseException) -> str:
    """An error for the log: its message where it is made for people, else its kind and where it was raised."""
    if isinstance(error, FlywheelError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"


class Lines(logging.Formatter):
    """One line an event: time, level, what happened and its `fields`, for people or as a JSON object.

    The message of an exception may be what somebody wrote: of one that is logged, kind and place are told.
    """

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
        if record.exc_info and record.exc_info[1]:
            fields["error"] = told(record.exc_info[1])
        message = " ".join(record.getMessage().split())
        if self._json:
            line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": message}
            return msgspec.json.encode(line | fields).decode()
        return " ".join([at, record.levelname.lower(), message, *(f"{k}={v}" for k, v in fields.items())])


def configure(*, json: bool) -> None:
    """Log to standard error: what the server does, and what goes wrong in what it stands on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(json=json))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("flywheel.server").setLevel(logging.INFO)
    # It warns of each connection that speaks no HTTP, without a word on whose it was.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
