"""Validity: what could not be read back is refused before it is written."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from flywheel.schema import FlywheelError, Outcome, Trajectory, canonical_json

Record = TypeVar("Record", bound=msgspec.Struct)
LARGEST = 2**63 - 1
LARGEST_INDEX = 2**31 - 1
# What is JSON as text: what nearly all have, and what reads the others.
JSON = {
    "metadata": ("{}", msgspec.json.Decoder(dict[str, msgspec.Raw])),
    "tools": ("[]", msgspec.json.Decoder(list[msgspec.Raw])),
}


def checked(record: Record) -> Record:
    """The record, its fields converted to their types (a list of calls to a tuple, say).

    Refused are wrong types, times without a zone or beyond the calendar, numbers that are not finite or do not fit 64
    bits (32 for the index of a step), metadata that is no JSON object and tools that are no JSON list.
    """
    kind = type(record)
    try:
        valid = msgspec.convert(msgspec.to_builtins(record, builtin_types=(datetime,)), kind)
        for part in (valid, *valid.steps) if isinstance(valid, Trajectory) else (valid,):
            for field in part.__struct_fields__:
                if not isinstance(value := getattr(part, field), str | None):
                    _check(field, value)
                elif field in JSON and value != JSON[field][0]:
                    _check_json(field, value or "")
        return valid
    except (msgspec.ValidationError, ValueError) as error:
        raise FlywheelError(f"this {kind.__name__.lower()} cannot be recorded: {error}") from error


def json_text(value: Any, what: str) -> str:
    """A value as canonical JSON text; refused where it is none."""
    try:
        return canonical_json(value)
    except (TypeError, ValueError) as error:
        raise FlywheelError(f"{what} must be JSON values: {error}") from error


def of_workspace(record: Trajectory | Outcome, workspace: str) -> None:
    """Refuse a record of another workspace."""
    if record.workspace != workspace:
        raise FlywheelError(f"this recorder writes to workspace {workspace!r}, not to {record.workspace!r}")


def _check_json(field: str, text: str) -> None:
    try:
        JSON[field][1].decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        what = "object" if field == "metadata" else "list"
        raise ValueError(f"{field} is no JSON {what} as text ({error})") from error


def _check(field: str, value: Any) -> None:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{field} has no time zone; give a time such as datetime.now(UTC)")
        try:
            value.astimezone(UTC)  # as it is stored
        except OverflowError:
            raise ValueError(f"{field} is {value}, which no calendar has in UTC") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{field} is {value}, not a finite number")
    if isinstance(value, int) and abs(value) > (LARGEST_INDEX if field == "step_index" else LARGEST):
        raise ValueError(f"{field} is too large: {value}")
