"""JSON as strangers send it: read strictly, so that two programs never read the same bytes in two ways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from flywheel.capture.validity import LARGEST
from flywheel.schema import FlywheelError

# In JSON that is well-formed, this finds each string from its beginning to its end, in one pass.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


def value(data: bytes, depth: int) -> Any:
    """The value of a JSON text.

    Raises:
        FlywheelError: when it is no JSON by RFC 8259 in UTF-8, names a key of an object twice, holds a number that is
            not finite or does not fit 64 bits, or has more than `depth` lists and objects inside one another.
    """
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except UnicodeDecodeError as error:
        raise FlywheelError(f"this is not UTF-8: byte {error.start} ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise FlywheelError(f"this is no JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise too_deep(depth) from error
    if data.count(b"[") + data.count(b"{") > depth:
        bare = np.frombuffer(STRING.sub(b"", data), np.uint8)
        if np.cumsum(_STEPS[bare]).max(initial=0) > depth:
            raise too_deep(depth)
    return found


def too_deep(depth: int) -> FlywheelError:
    """What is said of JSON that is nested too deeply."""
    return FlywheelError(f"more than {depth} lists and objects stand inside one another: send it as text")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise FlywheelError(f"the key {key[:100]!r} stands twice in one object: send it once")
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(number := int(digits)) > LARGEST:
        raise FlywheelError("a whole number does not fit 64 bits: send it as text")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise FlywheelError("a number is too large for 64 bits: send it as text")
    return number


def _constant(name: str) -> Any:
    raise FlywheelError(f"{name} is no JSON: leave it out, or send null")
