"""The writer: what it acknowledged is on disk, whole and once, whoever waits and whatever the disk does."""

import asyncio
import errno
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flywheel.capture.journals import journal, writer
from flywheel.capture.journals.events import Closed, Event
from flywheel.capture.journals.journal import Full
from flywheel.capture.journals.writer import Moved, Writer
from flywheel.schema import FlywheelError
from flywheel.settings import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def told(name: str) -> list[Event]:
    return [Closed(name, NOON)]


def on_disk(home: Home) -> dict[str, list[str]]:
    """The threads that each journal names, and that no line is torn."""
    found = {}
    for path in journal.paths(home.journals / "desk"):
        events, torn = journal.read(path)
        assert torn == []
        found[path.name] = [event.thread for _, event in events if isinstance(event, Closed)]
    return found


def test_what_is_put_is_on_disk_when_its_future_says_where(desk: Home) -> None:
    with Writer(desk, "desk") as writing:
        name = writing.put([*told("a"), *told("b")]).result(5)
        assert on_disk(desk) == {name: ["a", "b"]}
        assert asyncio.run(writing.write(told("c"))) == name
        [path] = journal.paths(desk.journals / "desk")
        with journal.claimed(path) as dead:
            assert not dead
    with journal.claimed(path) as dead:
        assert dead
    assert on_disk(desk) == {name: ["a", "b", "c"]}
    with pytest.raises(FlywheelError, match="the writer is closed"):
        writing.put(told("d"))


def test_a_writer_that_was_given_nothing_leaves_nothing(desk: Home) -> None:
    Writer(desk, "desk").close()
    assert on_disk(desk) == {}


def test_what_gathers_while_a_flush_runs_is_flushed_together(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes, fsync = [], os.fsync

    def slow(file: int) -> None:
        flushes.append(file)
        time.sleep(0.02)
        fsync(file)

    monkeypatch.setattr(os, "fsync", slow)
    with Writer(desk, "desk") as writing:
        futures = [writing.put(told(str(n))) for n in range(1000)]
        names = {future.result(5) for future in futures}
    assert len(flushes) < 10
    [(name, threads)] = on_disk(desk).items()
    assert names == {name} and threads == [str(n) for n in range(1000)]


def test_many_threads_and_tasks_write_at_once(desk: Home) -> None:
    with Writer(desk, "desk") as writing:

        async def tasks(thread: int) -> None:
            await asyncio.gather(*(writing.write(told(f"{thread}-{n}")) for n in range(50)))

        threads = [threading.Thread(target=lambda n=n: asyncio.run(tasks(n))) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    [written] = on_disk(desk).values()
    assert sorted(written) == sorted(f"{thread}-{n}" for thread in range(4) for n in range(50))


def test_a_full_or_old_journal_gives_way_to_a_new_one(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with Writer(desk, "desk") as writing:
        first = writing.put(told("a")).result(5)
        writing.rotate()
        second = writing.put(told("b"), into=writing.file).result(5)
        monkeypatch.setattr(journal, "ROTATE", 10)
        with pytest.raises(Moved):
            writing.put(told("c"), into=second)
        third = writing.put(told("c"), into=writing.file).result(5)
        assert on_disk(desk) == {first: ["a"], second: ["b"], third: ["c"]}
        # One that is old is given up though nothing more comes.
        monkeypatch.setattr(writer, "ROTATE_AGE", 0.01)
        writing.rotate()
        fourth = writing.put(told("d")).result(5)
        path = desk.journals / "desk" / fourth
        for _ in range(500):
            with journal.claimed(path) as dead:
                if dead:
                    break
            time.sleep(0.01)
        assert dead


Fault = Callable[[int, bytes], int]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk that fails as told: bytes that `room` is left for, and the error of each flush, if any."""
    state = {"room": 10**9, "flush": 0}
    write, fsync = os.write, os.fsync

    def writes(file: int, data: memoryview) -> int:
        if not state["room"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[: state["room"]])
        state["room"] -= done
        return done

    def flushes(file: int) -> None:
        if state["flush"]:
            raise OSError(state["flush"], "Input/output error")
        fsync(file)

    monkeypatch.setattr(os, "write", writes)
    monkeypatch.setattr(os, "fsync", flushes)
    return state


def test_a_full_disk_takes_nothing_of_what_it_refuses_and_goes_on_once_there_is_room(
    desk: Home, disk: dict[str, int]
) -> None:
    with Writer(desk, "desk") as writing:
        name = writing.put(told("a")).result(5)
        disk["room"] = 30  # less than a line: it is written in part, and taken back
        with pytest.raises(Full, match="nothing of this was recorded"):
            writing.put(told("b")).result(5)
        assert on_disk(desk) == {name: ["a"]}
        disk["room"] = 10**9
        assert writing.put(told("c")).result(5) == name
    assert on_disk(desk) == {name: ["a", "c"]}


def test_a_flush_that_failed_is_never_trusted_again(desk: Home, disk: dict[str, int]) -> None:
    with Writer(desk, "desk") as writing:
        first = writing.put(told("a")).result(5)
        disk["flush"] = errno.EIO
        with pytest.raises(Full):
            writing.put(told("b")).result(5)
        with pytest.raises(Full):
            writing.put(told("c")).result(5)  # nor can another journal be begun
        disk["flush"] = 0
        second = writing.put(told("d")).result(5)
        assert second != first
    assert on_disk(desk) == {first: ["a"], second: ["d"]}
    assert sorted(p.name for p in (desk.journals / "desk").glob(".*.new")) == []


def test_what_cannot_be_written_as_json_is_refused_and_disturbs_nobody(desk: Home) -> None:
    with Writer(desk, "desk") as writing:
        with pytest.raises(FlywheelError, match="this cannot be recorded"):
            writing.put(told("\ud800"))
        writing.put(told("a")).result(5)
    assert list(on_disk(desk).values()) == [["a"]]


@pytest.mark.filterwarnings("ignore:lance is not fork-safe:UserWarning")  # which other tests have imported
def test_a_fork_writes_to_a_journal_of_its_own(desk: Home) -> None:
    writing = Writer(desk, "desk")
    parent = writing.put(told("parent")).result(5)
    child = os.fork()
    if not child:
        code = 1
        try:
            with journal.claimed(desk.journals / "desk" / parent) as dead:
                code = int(dead or writing.put(told("child")).result(5) == parent)
            writing.close()
        finally:
            os._exit(code)
    writing.put(told("parent still"))
    assert os.waitpid(child, 0)[1] == 0
    writing.close()
    found = on_disk(desk)
    assert found.pop(parent) == ["parent", "parent still"]
    assert list(found.values()) == [["child"]]


@pytest.mark.filterwarnings("ignore:lance is not fork-safe:UserWarning")  # which other tests have imported
def test_a_fork_does_not_keep_its_parents_journal(desk: Home) -> None:
    writing = Writer(desk, "desk")
    name = writing.put(told("parent")).result(5)
    ours, theirs = multiprocessing.Pipe()
    child = os.fork()
    if not child:
        theirs.send("here")
        theirs.recv()
        os._exit(0)
    assert ours.recv() == "here"
    writing.close()
    with journal.claimed(desk.journals / "desk" / name) as dead:
        assert dead
    ours.send("go")
    os.waitpid(child, 0)
