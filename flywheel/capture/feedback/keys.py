"""Keys of outcomes: what is told again under its key is the same fact, also where it tells no time of its own."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flywheel.capture.journals.journal import Full
from flywheel.settings import Home


class Keys:
    """The keys of one workspace, on disk and shared by all processes: a hash, when it was first told, and of what.

    An outcome is named by its content, its time included. So that one who tells it again without saying when tells
    the same outcome, a key keeps the moment of its first telling.
    """

    def __init__(self, home: Home, workspace: str) -> None:
        self._path = home.intake / f"{workspace}.sqlite"

    def first(self, told: Sequence[tuple[str, str, datetime]]) -> list[tuple[datetime, bool, bool]]:
        """For each (key, what it is told of, now): when it was first told, whether that was before, and of the same.

        What is told of is kept as a hash, like the key. All are on disk on return.
        """
        with self._connected() as connection:
            found: list[tuple[datetime, bool, bool]] = []
            for key, content, now in told:
                name, digest = _hash(key), _hash(content)
                new = connection.execute(
                    "INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", (name, digest, now.astimezone(UTC).isoformat())
                ).rowcount
                [(of, at)] = connection.execute("SELECT content, first FROM keys WHERE key = ?", (name,)).fetchall()
                found.append((datetime.fromisoformat(at), not new, of == digest))
            return found

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with database(self._path) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, content BLOB, first TEXT)")
            yield connection


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction in a file that several processes write: on disk when the block ends well, else nothing of it.

    Raises:
        Full: when the disk cannot take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Full(f"nothing of this was recorded: {path} cannot be written ({error})") from error


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
