"""Snapshot versions as partition keys: a number, and the as-of time that makes it a function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from flywheel.schema import FlywheelError

KEY = re.compile(r"v(\d+)-(\d{8}T\d{6}Z)")


class Version(msgspec.Struct, frozen=True, order=True):
    """One version of the wheel's corpus, known by what had arrived as of a whole second in UTC."""

    number: int
    as_of: datetime

    @property
    def key(self) -> str:
        """The partition key, such as `v1-20261109T000000Z`."""
        return f"v{self.number}-{self.as_of.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def parse(key: str) -> Version:
    """The version that a partition key names.

    Raises:
        FlywheelError: when the key is of another form.
    """
    match = KEY.fullmatch(key)
    if not match:
        raise FlywheelError(f"{key!r} names no version; a key looks like v1-20261109T000000Z")
    return Version(int(match[1]), datetime.strptime(match[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))


def among(names: Iterable[str]) -> list[Version]:
    """The versions among names of things, in order; names of another form are those of other things."""
    return sorted(parse(name) for name in names if KEY.fullmatch(name))


def following(keys: Iterable[str], as_of: datetime, taken: Iterable[int] = ()) -> Version:
    """The version to make as of a moment: the one that already has this as-of, else the next number.

    `taken` are numbers of versions that were made by hand, and have no key.
    """
    known = [parse(key) for key in keys]
    as_of = as_of.astimezone(UTC).replace(microsecond=0)
    for version in known:
        if version.as_of == as_of:
            return version
    return Version(max((*(v.number for v in known), *taken), default=0) + 1, as_of)
