"""Shipping while a process lives: one thread a spool, if no other process does it."""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
from pathlib import Path

from flywheel.capture.recorders.sending import Server, Unreachable
from flywheel.capture.recorders.shipping import Shipper, alone
from flywheel.schema import FlywheelError
from flywheel.settings import Home

log = logging.getLogger("flywheel")

# Seconds between two looks at the spool, and the longest between two tries of a server that cannot take it.
EVERY = 1.0
LONGEST = 60.0

# Seconds that a process waits at its end for a server that has taken all so far.
AT_EXIT = 5.0


def shipping(spool: Home, server: Server) -> Shipping:
    """The shipping of a spool's workspace in this process, begun: recorders that share a spool share it.

    Raises:
        FlywheelError: when it goes to another server.
    """
    with _STARTING:
        key = (spool.root, server.workspace)
        found = _SHIPPING.get(key)
        if found is None or found.stopped:
            found = _SHIPPING[key] = Shipping(spool, server)
            atexit.register(found.leave)
        if found.server.url != server.url:
            raise FlywheelError(f"{spool.root} goes to {found.server.url}; give {server.url} a spool of its own")
        found.start()
        return found


class Shipping:
    """The thread that ships a spool while this process lives, if no other process does.

    A fork begins one of its own with what it records or flushes first.
    """

    def __init__(self, spool: Home, server: Server) -> None:
        self.server = server
        self._spool = spool
        self._fresh()

    @property
    def trouble(self) -> str:
        """Why nothing was shipped when it was last tried; empty where all went well."""
        return self._trouble

    def start(self) -> None:
        """Begin, unless it has begun in this process."""
        with self._passed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"ship {self.server.workspace}", daemon=True)
                self._thread.start()

    def look(self) -> None:
        """Look at the spool now."""
        self._wake.set()

    def leave(self) -> None:
        """As this process ends: let what ended last go out too, if the server takes it quickly."""
        if self._thread and not self._trouble:
            self.flush(AT_EXIT)

    def stop(self) -> None:
        """Ship no more: what is left stays for the next recorder on the spool, or for `flywheel ship`."""
        self._tell(trouble="shipping was stopped", stopped=True)
        self.look()
        if self._thread:
            self._thread.join()

    def flush(self, timeout: float) -> bool:
        """Whether what has ended by now was shipped within so many seconds; false at once where another does it."""
        self.start()
        until = time.monotonic() + timeout
        with self._passed:
            wanted = self._begun + 1  # the look under way may have missed it
            self.look()
            while self._done < wanted and not self.stopped and not self.elsewhere:
                if (left := until - time.monotonic()) <= 0:
                    break
                self._passed.wait(left)
            return self._done >= wanted

    def _fresh(self) -> None:
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._passed = threading.Condition()
        # Looks at the spool, counted: those that began, and the last that brought all of it to the server.
        self._begun = self._done = 0
        self._trouble = ""
        self.stopped = self.elsewhere = False

    def _run(self) -> None:
        try:
            while not self.stopped:
                with alone(self._spool, self.server.workspace) as mine:
                    self.elsewhere = not mine
                    if mine:
                        self._ship()
                        return
                self._sleep(EVERY)
        except Exception as error:  # whatever it is, it must not end this thread in silence
            log.error(
                "shipping has stopped: %s; all is kept in %s. When that is put right, start again, or: "
                "flywheel ship --spool %s --to %s",
                error if isinstance(error, FlywheelError) else f"{type(error).__name__}: {error}",
                self._spool.root,
                self._spool.root,
                self.server.url,
            )
            self._tell(trouble=str(error), stopped=True)

    def _ship(self) -> None:
        shipper, tries = Shipper(self._spool, self.server), 0
        while not self.stopped:
            pause, begun = EVERY, self._begin()
            try:
                shipped = shipper.ship()
                if tries:
                    log.info("%s takes what is sent again", self.server.url)
                if shipped.quarantined:
                    log.warning("%s set %d records aside: see its quarantine", self.server.url, shipped.quarantined)
                tries = 0
                self._tell(done=begun)
            except Unreachable as error:
                if not tries:
                    log.warning("%s; all is kept in %s, and tried again", error, self._spool.root)
                self._tell(trouble=str(error))
                # Exponential, with jitter: many agents do not come back at the same moment.
                pause = random.uniform(EVERY / 2, min(LONGEST, EVERY * 2.0**tries))
                tries = min(tries + 1, 10)
                if error.retry_after is not None:
                    self._leave_alone(max(error.retry_after, pause))
            if not self.stopped:
                self._sleep(pause)

    def _begin(self) -> int:
        with self._passed:
            self._begun += 1
            return self._begun

    def _tell(self, *, done: int | None = None, trouble: str = "", stopped: bool = False) -> None:
        """How it stands, for those who wait for it."""
        with self._passed:
            self._done = self._done if done is None else done
            self._trouble, self.stopped = trouble, self.stopped or stopped
            self._passed.notify_all()

    def _leave_alone(self, seconds: float) -> None:
        """Wait as a server asked to: nobody but `stop` ends that before."""
        with self._passed:
            self._passed.wait_for(lambda: self.stopped, seconds)

    def _sleep(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()


_SHIPPING: dict[tuple[Path, str], Shipping] = {}
_STARTING = threading.Lock()


def _after_fork() -> None:
    """Locks that another thread held stay held in a child, and threads stay behind."""
    global _STARTING
    _STARTING = threading.Lock()
    for shipping in _SHIPPING.values():
        shipping._fresh()


os.register_at_fork(after_in_child=_after_fork)
