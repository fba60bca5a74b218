"""Which side of the split a group of tasks is on: a pure hash, so it never moves as data grows."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "heldout"]

SALT = "flywheel"
PERCENT = 25


def split_of(group: str, percent: int = PERCENT, salt: str = SALT) -> Split:
    """The split of a task group: `heldout` for about `percent` in a hundred groups.

    It depends on the three arguments alone, so a group keeps its side whatever else arrives, and with one salt
    a group that is held out at some percentage is held out at every higher one.
    """
    digest = hashlib.sha256(f"{salt}\x1f{group}".encode()).digest()
    return "heldout" if int.from_bytes(digest[:8], "big") % 10_000 < percent * 100 else "train"
