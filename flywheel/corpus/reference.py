"""How people name a version of a corpus: `NAME@v3`, the newest of a branch (`NAME@BRANCH`), or a tag (`NAME@TAG`)."""

from __future__ import annotations

import re

from flywheel.schema import FlywheelError
from flywheel.settings import checked_name

VERSION = re.compile(r"v?([1-9]\d{0,8})")
LATEST = "latest"
MAIN = "main"


def parse(text: str) -> tuple[str, int | str | None]:
    """The corpus and what a reference names in it: a number, the name of a branch or tag, or None for the newest.

    `NAME` alone and `NAME@latest` are the newest version of the branch `main`.

    Raises:
        FlywheelError: when the text is of another form.
    """
    name, at, ref = text.partition("@")
    checked_name(name, "corpus")
    if not at or ref == LATEST:
        return name, None
    match = VERSION.fullmatch(ref)
    return name, int(match[1]) if match else checked_name(ref, "version, branch or tag")


def within(text: str) -> int | str | None:
    """What a reference names within a corpus that is known: `v3`, `latest`, a branch or a tag."""
    return parse(f"corpus@{text}")[1]


def checked_ref(name: str, what: str) -> str:
    """A name for a branch or a tag: one that cannot be read as a version.

    Raises:
        FlywheelError: when it can, or has characters that names have not.
    """
    if VERSION.fullmatch(name) or name == LATEST:
        raise FlywheelError(f"{what} {name!r} would be read as a version; take another name")
    return checked_name(name, what)
