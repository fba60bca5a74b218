"""Changes: which trajectories worked on which pull requests and commits, and what became of those, kept for good."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flywheel.capture.feedback.keys import database
from flywheel.capture.redaction.redact import redactor
from flywheel.schema import FlywheelError
from flywheel.settings import Home

PULL = re.compile(r"([\w.-]+/[\w.-]+)#(\d+)")
SHA = re.compile(r"[0-9a-f]{7,64}")

TABLES = (
    "CREATE TABLE IF NOT EXISTS links (change TEXT, trajectory TEXT, UNIQUE (change, trajectory))",
    "CREATE TABLE IF NOT EXISTS merges (sha TEXT PRIMARY KEY, change TEXT)",
    "CREATE TABLE IF NOT EXISTS reverts (revert TEXT, change TEXT, UNIQUE (revert, change))",
)


def pull_name(text: str) -> str:
    """The name of a pull request; GitHub does not tell upper from lower case in it.

    Raises:
        FlywheelError: when it is none.
    """
    if not PULL.fullmatch(text):
        raise FlywheelError(f"{text!r} is no pull request; write it as owner/repository#12")
    return text.lower()


class Changes:
    """The changes of one workspace, within one transaction (`changes`).

    A pull request is named `owner/name#12`, and a commit that was pushed without one `owner/name@SHA`. A revert may
    come a year later: nothing here is ever forgotten. Names are kept without secrets, as outcomes have them.
    """

    def __init__(self, connection: sqlite3.Connection, home: Home, workspace: str) -> None:
        self._connection = connection
        self._clean = redactor(home, workspace).identifier

    def link(self, change: str, trajectories: Sequence[str]) -> None:
        """Link trajectories to a change; those that are linked stay so."""
        rows = [(self._clean(change), self._clean(id)) for id in trajectories]
        self._connection.executemany("INSERT OR IGNORE INTO links VALUES (?, ?)", rows)

    def linked(self, change: str) -> list[str]:
        """The trajectories that worked on a change, in order."""
        return self._column("SELECT trajectory FROM links WHERE change = ? ORDER BY 1", self._clean(change))

    def all(self) -> list[tuple[str, str]]:
        """Every (change, trajectory), in order."""
        return self._connection.execute("SELECT change, trajectory FROM links ORDER BY change, trajectory").fetchall()

    def merged(self, change: str, sha: str) -> None:
        """Note that a change became a commit."""
        if SHA.fullmatch(sha.lower()):
            row = (sha.lower(), self._clean(change))
            self._connection.execute("INSERT OR IGNORE INTO merges VALUES (?, ?)", row)

    def merged_as(self, shas: Sequence[str]) -> list[str]:
        """The changes that became the commits whose hashes, or beginnings of them, are told."""
        asked = "SELECT change FROM merges WHERE sha GLOB ? || '*' ORDER BY 1"
        return [change for sha in shas if SHA.fullmatch(sha.lower()) for change in self._column(asked, sha.lower())]

    def reverted(self, revert: str, change: str) -> list[str]:
        """Note that a change was reverted by another; what it had reverted itself, and what thus stands again."""
        row = (self._clean(revert), self._clean(change))
        self._connection.execute("INSERT OR IGNORE INTO reverts VALUES (?, ?)", row)
        return self._column("SELECT change FROM reverts WHERE revert = ? ORDER BY 1", row[1])

    def _column(self, asked: str, value: str) -> list[str]:
        return [found for (found,) in self._connection.execute(asked, (value,))]


@contextmanager
def changes(home: Home, workspace: str) -> Iterator[Changes]:
    """The changes of a workspace, in one transaction."""
    with database(home.intake / f"{workspace}.sqlite") as connection:
        for table in TABLES:
            connection.execute(table)
        yield Changes(connection, home, workspace)
