"""Settling: days that are closed stay closed, torn lines are set aside, and a crash anywhere changes nothing."""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.capture import Recorder, workspaces
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import SetAside
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling.settle import Settled, settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, FlywheelError, Quarantined
from flywheel.settings import Home

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        return self.now


def rows(home: Home) -> dict[str, tuple[str, datetime, int]]:
    return {
        r["id"]: (r["end_state"], r["arrived_at"], r["n_steps"])
        for r in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()
    }


def settled(**counts: int) -> Settled:
    none = dict.fromkeys(Settled.__struct_fields__, 0)
    return Settled(**(none | counts))


def test_what_has_ended_is_stored_and_what_goes_on_waits(desk: Home) -> None:
    clock = Clock()
    recorder = Recorder(desk, "desk", agent="bot", clock=clock)
    with recorder.trajectory(task_id="1", id="done"):
        pass
    with recorder.trajectory(task_id="1", id="open") as recording:
        recording.step(role="user", content="Hello")
        assert settle(desk, "desk", MONDAY) == settled(trajectories=1, waiting=1)
        clock.now += DAY
    assert settle(desk, "desk", MONDAY) == settled(already_there=1, waiting=1)  # tomorrow's end is not yet
    assert settle(desk, "desk", MONDAY + DAY) == settled(trajectories=1, already_there=1)
    recorder.close()
    assert settle(desk, "desk", MONDAY + DAY) == settled(already_there=2, journals_removed=1)
    assert settle(desk, "desk", MONDAY + DAY) == settled()
    assert rows(desk) == {"done": ("completed", MONDAY, 0), "open": ("completed", MONDAY + DAY, 1)}
    assert sorted(p.parent.name for p in warehouse.files(desk.captures)) == ["day=2026-01-05", "day=2026-01-06"]


def write_without_an_end(home: Home, clock: Clock, id: str) -> None:
    """The journal of a writer that was killed in the middle of a trajectory, an hour after it began."""
    recorder = Recorder(home, "desk", agent="bot", clock=clock)
    with recorder.trajectory(task_id="1", id=id) as recording:
        clock.now += timedelta(hours=1)
        recording.step(role="user", content="Hello")
        [path] = journal.paths(home.journals / "desk")
        begun = path.read_bytes()
    recorder.close()
    path.write_bytes(begun)


def test_an_abandoned_trajectory_is_partial_and_arrives_with_its_last_event(desk: Home) -> None:
    write_without_an_end(desk, Clock(), "left")
    assert settle(desk, "desk", MONDAY + DAY) == settled(trajectories=1, abandoned=1, journals_removed=1)
    assert rows(desk) == {"left": ("partial", MONDAY + timedelta(hours=1), 1)}


def test_what_comes_to_light_after_a_close_arrives_after_it(desk: Home) -> None:
    clock = Clock()
    settle(desk, "desk", MONDAY + DAY)
    recorder = Recorder(desk, "desk", agent="bot", clock=clock)
    with recorder.trajectory(task_id="1", id="late"):
        recorder.outcome("late", "done", 1.0)
    settle(desk, "desk", MONDAY + 2 * DAY)
    with recorder.trajectory(task_id="1", id="later"):  # and a settle that looks back to a closed time
        pass
    settle(desk, "desk", MONDAY)
    tick = timedelta(microseconds=1)
    assert rows(desk) == {
        "late": ("completed", MONDAY + 2 * DAY, 0),
        "later": ("completed", MONDAY + 2 * DAY + tick, 0),
    }
    [outcome] = warehouse.read(desk.outcomes, OUTCOMES, "desk").to_pylist()
    assert (outcome["observed_at"], outcome["arrived_at"]) == (MONDAY, MONDAY + 2 * DAY)


def test_of_one_id_the_one_that_ended_is_stored(desk: Home) -> None:
    write_without_an_end(desk, Clock(), "twice")
    second = Recorder(desk, "desk", agent="bot", clock=Clock())
    with second.trajectory(task_id="1", id="twice") as recording:
        # The first was abandoned at one o'clock, but somebody is at it again.
        assert settle(desk, "desk", MONDAY + timedelta(hours=2)) == settled(waiting=1)
        recording.step(role="user", content="Hello")
        recording.step(role="assistant", content="Hello")
    second.close()
    assert settle(desk, "desk", MONDAY + DAY) == settled(trajectories=1, journals_removed=2)
    assert rows(desk) == {"twice": ("completed", MONDAY + DAY, 2)}


def test_torn_and_foreign_lines_are_set_aside_and_the_rest_goes_on(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot", clock=Clock())
    with recorder.trajectory(task_id="1", id="one"):
        pass
    recorder.close()
    [path] = journal.paths(desk.journals / "desk")
    path.write_bytes(b"\0\0\0\n" + path.read_bytes() + b'{"event":"said","id":"no one","at":"2026-01-05T12:00:00Z",'
                     b'"step":{"role":"user"}}\n{"event":"be')  # fmt: skip
    assert settle(desk, "desk", MONDAY) == settled(trajectories=1, quarantined=3, journals_removed=1)
    bad = warehouse.read(desk.quarantine, QUARANTINE, "desk").sort_by("line").to_pylist()
    assert [(r["line"], r["source"]) for r in bad] == [(1, path.name), (4, path.name), (5, path.name)]
    assert path.with_suffix(".torn").read_bytes().startswith(b"\0\0\0\n{")


def bad(line: int, at: datetime) -> SetAside:
    return SetAside(
        Quarantined(workspace="desk", source="http", line=line, error="no JSON", excerpt="x", arrived_at=at)
    )


def test_refused_inputs_are_stored_once_when_they_are_due(desk: Home) -> None:
    with Writer(desk, "desk") as writer:
        writer.put([bad(1, MONDAY), bad(2, MONDAY + DAY), bad(1, MONDAY)]).result(5)
        assert settle(desk, "desk", MONDAY) == settled(quarantined=1, waiting=1)
        assert settle(desk, "desk", MONDAY) == settled(waiting=1)
    assert settle(desk, "desk", MONDAY) == settled(waiting=1)
    assert settle(desk, "desk", MONDAY + DAY) == settled(quarantined=1, journals_removed=1)
    rows = warehouse.read(desk.quarantine, QUARANTINE, "desk").sort_by("line").to_pylist()
    assert [(row["line"], row["arrived_at"]) for row in rows] == [(1, MONDAY), (2, MONDAY + DAY)]


def test_an_unknown_workspace_is_refused(desk: Home) -> None:
    with pytest.raises(FlywheelError, match="workspace create"):
        settle(desk, "nowhere", MONDAY)


def a_journal(home: Home) -> bytes:
    """Three trajectories with two steps and an outcome each, as the journal's bytes."""
    workspaces.create(home, "desk")
    recorder = Recorder(home, "desk", agent="bot", clock=Clock())
    for number in range(3):
        with recorder.trajectory(task_id="1", id=f"t{number}") as recording:
            recording.step(role="user", content="Grüße")
            recording.step(role="assistant", content='"quoted"\n')
            recording.outcome("done", 1.0)
    recorder.close()
    [path] = journal.paths(home.journals / "desk")
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole_journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return a_journal(Home(tmp_path_factory.mktemp("journal")))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_journal_cut_at_any_byte_keeps_every_whole_line(whole_journal: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(whole_journal)))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, "desk")
        path = home.journals / "desk" / "w.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(whole_journal[:cut])
        lines = whole_journal[:cut].split(b"\n")
        begun, ended = (sum(f'"event":"{e}"'.encode() in line for line in lines[:-1]) for e in ("began", "ended"))
        told = sum(b'"event":"told"' in line for line in lines[:-1])
        assert settle(home, "desk", MONDAY) == settled(
            trajectories=begun,
            abandoned=begun - ended,
            outcomes=told,
            quarantined=bool(lines[-1]),
            journals_removed=1,
        )
        assert settle(home, "desk", MONDAY) == settled()


KILLED = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from flywheel import artifacts
from flywheel.capture.settling.settle import settle
from flywheel.settings import Home

left = int(sys.argv[2])

def die_at_the_end(call):
    def counted(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return call(*arguments, **named)
    return counted

os.fsync = die_at_the_end(os.fsync)
Path.replace = die_at_the_end(Path.replace)
Path.unlink = die_at_the_end(Path.unlink)
settle(Home(Path(sys.argv[1])), "desk", datetime(2026, 1, 6, 12, tzinfo=UTC))
"""


def test_a_settle_killed_at_any_write_and_run_again_stores_everything_once(desk: Home, tmp_path: Path) -> None:
    a_journal(desk)
    journals = sorted(desk.journals.rglob("*.jsonl"))
    journals[0].write_bytes(journals[0].read_bytes() + b"torn")
    plain = Home(tmp_path / "plain")
    shutil.copytree(desk.root, plain.root)
    settle(plain, "desk", MONDAY + DAY)
    moments = random.Random(0).sample(range(1, 22), 6)
    killed = 0
    for moment in moments:
        home = Home(tmp_path / f"killed-{moment}")
        shutil.copytree(desk.root, home.root)
        ran = subprocess.run([sys.executable, "-c", KILLED, str(home.root), str(moment)], check=False)
        assert ran.returncode in (0, -signal.SIGKILL)
        killed += ran.returncode != 0
        settle(home, "desk", MONDAY + DAY)
        for root, schema in (("captures", TRAJECTORIES), ("outcomes", OUTCOMES), ("quarantine", QUARANTINE)):
            found = warehouse.read(getattr(home, root), schema, "desk")
            assert found.equals(warehouse.read(getattr(plain, root), schema, "desk")), (moment, root)
        assert journal.paths(home.journals / "desk") == []
    assert killed >= 4
