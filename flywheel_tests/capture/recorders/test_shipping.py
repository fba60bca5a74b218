"""Shipping, whatever happens in whatever order: all that ended arrives whole, and then the spool is empty."""

import json
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture import Recorder, workspaces
from flywheel.capture.journals import journal
from flywheel.capture.recorders.sending import Kind, Server, Unreachable
from flywheel.capture.recorders.shipping import Shipper
from flywheel.settings import Home


class Flaky(Server):
    """A server that takes what it is sent, but now and then its answer is lost, or it takes nothing."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "desk", None)
        self.there: dict[tuple[Kind, str], dict[str, Any]] = {}
        self.next: str = "fine"

    def post(self, kind: Kind, lines: list[bytes]) -> list[dict[str, Any]]:
        now, self.next = self.next, "fine"
        if now != "away":
            for record in map(json.loads, lines):
                known = self.there.setdefault((kind, record.get("id") or record["trajectory_id"]), record)
                assert known["trajectory_id"] == record["trajectory_id"] if kind == "outcomes" else known == record
        if now != "fine":
            raise Unreachable(now)
        return []


ACTIONS = st.lists(st.sampled_from(["begin", "say", "end", "tell", "ship", "away", "lost", "restart"]), max_size=25)


@settings(max_examples=40)
@given(ACTIONS)
def test_whatever_happens_all_that_ended_arrives_once_and_whole(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool, server = Home(Path(folder)), Flaky()
        workspaces.create(spool, "desk")
        shipper = Shipper(spool, server)
        said: dict[str, list[str]] = {}
        told = 0
        with ExitStack() as stack:
            recorder = Recorder(spool, "desk", agent="bot")
            going, opened = None, ExitStack()
            stack.callback(lambda: recorder.close())
            stack.callback(lambda: opened.close())
            for number, action in enumerate(actions):
                if action == "begin" and going is None:
                    going = opened.enter_context(recorder.trajectory(task_id="1", id=f"t-{number}"))
                    said[going.id] = []
                elif action == "say" and going is not None:
                    going.step(role="user", content=f"{number}")
                    said[going.id].append(f"{number}")
                elif action == "end" and going is not None:
                    opened.close()
                    going = None
                elif action == "tell":
                    recorder.outcome(f"o-{number}", "s", 1.0)
                    told += 1
                elif action == "restart":
                    shipper = Shipper(spool, server)
                elif action in ("ship", "away", "lost"):
                    server.next = {"ship": "fine"}.get(action, action)
                    with suppress(Unreachable):
                        shipper.ship()
        server.next = "fine"
        shipper.ship()
        arrived = {
            id: [s["content"] for s in r["steps"]] for (kind, id), r in server.there.items() if kind != "outcomes"
        }
        assert arrived == said
        assert sum(kind == "outcomes" for kind, _ in server.there) == told
        assert journal.paths(spool.journals / "desk") == []
