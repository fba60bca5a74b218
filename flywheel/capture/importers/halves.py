"""JSON of programs that cut text in UTF-16, as those in JavaScript do: half a character may stand at the end of one."""

from __future__ import annotations

import json
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")
MARKS = (b"\\ud", b"\\uD")  # how a half is written


@overload
def decoded(data: bytes) -> Any: ...
@overload
def decoded(data: bytes, type: type[T]) -> T: ...
def decoded(data: bytes, type: Any = Any) -> Any:
    """As `msgspec.json.decode`, where a half without its other half is U+FFFD."""
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not any(mark in data for mark in MARKS):
            raise
    return msgspec.json.decode(_whole(json.loads(data)), type=type)


def joined(value: Any) -> Any:
    """A JSON value in whose texts the halves of characters are joined; those without their other half are U+FFFD."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.loads(_whole(value))
    return value


def _whole(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
