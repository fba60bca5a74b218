"""The recorder of an agent that runs elsewhere: on disk here at once, and at the server as soon as it can take it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from flywheel import settings
from flywheel.capture import workspaces
from flywheel.capture.journals.events import Ended, Event
from flywheel.capture.journals.journal import Full
from flywheel.capture.journals.writer import Writer
from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.recorders.sending import Server
from flywheel.capture.recorders.shipping import waiting
from flywheel.capture.recorders.shipping_thread import shipping
from flywheel.settings import Home

# Journals that a spool has room for, at least: what is shipped gives room again, one at a time.
PARTS = 8


class RemoteRecorder(Recorder):
    """A recorder whose journals lie in a spool folder of this machine, from which a thread ships what has ended.

    Each call returns when what it was given is on disk here: the server may be away for as long as the spool has
    room, and the agent may be killed; the next recorder on the spool, or `flywheel ship`, sends what is left. The
    server knows what it is sent twice by its id. Processes may share a spool: one of them ships.

    `bound` is the number of bytes that the spool may have; beyond it calls raise `Full` rather than lose anything
    silently. Where the server refuses (a token that does not do, a wrong address), shipping stops with an error in
    the log, and the spool keeps all.
    """

    def __init__(
        self,
        url: str,
        workspace: str,
        *,
        spool: Path | str,
        token: str | None = None,
        bound: int = 2**30,
        **about: Any,
    ) -> None:
        self.spool = Home(Path(spool).expanduser().resolve())
        self.bound = bound
        workspaces.create(self.spool, workspace)
        super().__init__(self.spool, workspace, **about)
        self._writers.most = bound // PARTS
        self.shipping = shipping(self.spool, Server(url, workspace, token or settings.token()))

    def put(self, writer: Writer, events: Sequence[Event], file: str | None = None) -> Future[str]:
        """Have events written, unless the spool is full; the end of what has begun is taken all the same."""
        self.shipping.start()
        if not isinstance(events[-1], Ended) and (held := waiting(self.spool, self._workspace)) > self.bound:
            raise Full(
                f"nothing of this was recorded: {self.spool.root} holds {held:,} bytes, and may have {self.bound:,}; "
                f"{self.shipping.trouble or 'the server takes it more slowly than it comes'}"
            )
        return super().put(writer, events, file)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that has ended by now is at the server; false when it was not after `timeout` seconds."""
        return self.shipping.flush(timeout)

    def close(self) -> None:
        """Give up the journal, and let what is there be shipped; `flush` waits for it."""
        super().close()
        self.shipping.look()
