"""How people name a version of a corpus: `NAME@v3`, or `NAME` and `NAME@latest` for the newest."""

from __future__ import annotations

import re

from flywheel.schema import FlywheelError
from flywheel.settings import checked_name

VERSION = re.compile(r"v?([1-9]\d{0,8})")


def parse(text: str) -> tuple[str, int | None]:
    """The corpus and the version that a reference names; no version (None) stands for the newest.

    Raises:
        FlywheelError: when the text is of another form.
    """
    name, at, version = text.partition("@")
    if not at or version == "latest":
        return checked_name(name, "corpus"), None
    return checked_name(name, "corpus"), number(version)


def number(text: str) -> int:
    """The number of a version written `v3` or `3`."""
    match = VERSION.fullmatch(text)
    if not match:
        raise FlywheelError(f"{text!r} names no version; write v1, v2, ... or latest, as in support@v3")
    return int(match[1])
