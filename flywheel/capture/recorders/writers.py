"""The writers of a recorder: one that what begins now goes to, and older ones in which something still goes on."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flywheel.capture.journals import journal
from flywheel.capture.journals.writer import Writer
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class Writers:
    """Keeps the writers of one workspace for one recorder; any thread may call.

    What begins goes to the journal that is written now, and stays in it, so a journal that has grown old, or past
    `most` bytes, gives way to another for what begins next. It is closed when nothing goes on in it any more, so that
    it can be settled away. After a fork the child begins anew: the parent's writers are the parent's.
    """

    def __init__(self, home: Home, workspace: str) -> None:
        self._home, self._workspace = home, workspace
        self.most = journal.ROTATE
        # All that are not closed.
        self._all: set[Writer] = set()
        self._fresh()
        weakref.finalize(self, _give_up, self._all)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The lock: no writer is closed, and nothing begins or ends, within the block."""
        if self._process != os.getpid():
            self._all.clear()
            self._fresh()
        with self._lock:
            yield

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The writer of what begins now, which nobody closes within the block."""
        with self.held():
            if self._now is None or self._old(self._now):
                self._now = Writer(self._home, self._workspace, rotating=False)
                self._all.add(self._now)
            yield self._now
            self._retire()

    def begin(self, id: str, writer: Writer) -> None:
        """Note that a trajectory goes on in the journal of a writer.

        Raises:
            FlywheelError: when one of this id does already.
        """
        with self.held():
            if id in self._going:
                raise FlywheelError(f"trajectory {id} is being recorded already; give each its own id")
            self._going[id] = writer

    def end(self, id: str) -> None:
        """Note that nothing more comes of a trajectory."""
        with self.held():
            self._going.pop(id, None)
            self._retire()

    def close(self) -> None:
        """Close all; what begins next begins another journal.

        Raises:
            FlywheelError: when something goes on.
        """
        with self.held():
            if self._going:
                raise FlywheelError(f"trajectories are being recorded still: {', '.join(sorted(self._going))}")
            writers, self._now = list(self._all), None
            self._all.clear()
        for writer in writers:
            writer.close()

    def _fresh(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._going: dict[str, Writer] = {}
        self._now: Writer | None = None

    def _old(self, writer: Writer) -> bool:
        return writer.old or writer.size > self.most

    def _retire(self) -> None:
        """Close the writers that are old and in which nothing goes on."""
        for writer in self._all - set(self._going.values()):
            if writer is not self._now or self._old(writer):
                self._all.discard(writer)
                if writer is self._now:
                    self._now = None
                # It writes what waits first: nobody here needs to.
                threading.Thread(target=writer.close, daemon=True).start()


def _give_up(writers: set[Writer]) -> None:
    """Close what is open when nobody has the recorder any more."""
    for writer in writers:
        with suppress(RuntimeError):  # it may be one of their own threads that finds out
            writer.close()
