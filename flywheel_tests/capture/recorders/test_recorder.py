"""The recorder: what it writes, when it refuses, and that nothing acknowledged is ever lost."""

import contextvars
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Ended, Said, Told
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError, Outcome, Step, ToolCall, Trajectory, trajectory_of
from flywheel.settings import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that moves a second each time it is asked."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def stored(home: Home) -> list[Trajectory]:
    settle(home, "desk", LATER)
    return [trajectory_of(row) for row in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()]


def ledger(home: Home) -> list[dict[str, object]]:
    return warehouse.read(home.outcomes, OUTCOMES, "desk").to_pylist()


def test_a_recorded_trajectory_is_stored_as_it_was_said(desk: Home) -> None:
    recorder = Recorder(
        desk, "desk", agent="bot", agent_version="7", model="m", provider="p", tools=[{"name": "f"}], clock=Clock()
    )
    call = ToolCall(id="c1", name="f", arguments='{"x": 1}')
    with recorder.trajectory(
        task_id="t-1", task_group="g", task_type="desk", id="one", metadata={"shop": 3}
    ) as recording:
        assert recording.step(role="user", content="Hello") == 0
        assert recording.step(Step(role="assistant", reasoning="hm", tool_calls=(call,), completion_tokens=5)) == 1
        assert recording.step(role="tool", content="42", tool_call_id="c1", tool_name="f", is_error=False) == 2
        recording.outcome("helpful", 1.0, source="judge", step_index=1)
    recorder.outcome("one", "reopened", 1.0, source="ticketing", observed_at=NOON + timedelta(days=2))
    recorder.close()

    [trajectory] = stored(desk)
    assert trajectory == Trajectory(
        id="one",
        workspace="desk",
        task_id="t-1",
        task_group="g",
        task_type="desk",
        agent="bot",
        agent_version="7",
        model="m",
        provider="p",
        tools='[{"name":"f"}]',
        end_state="completed",
        started_at=NOON + timedelta(seconds=1),
        arrived_at=NOON + timedelta(seconds=6),
        source="recorder",
        metadata='{"shop":3}',
        steps=(
            Step(role="user", content="Hello", at=NOON + timedelta(seconds=2)),
            Step(
                role="assistant",
                reasoning="hm",
                tool_calls=(call,),
                completion_tokens=5,
                at=NOON + timedelta(seconds=3),
            ),
            Step(
                role="tool",
                content="42",
                tool_call_id="c1",
                tool_name="f",
                is_error=False,
                at=NOON + timedelta(seconds=4),
            ),
        ),
    )
    assert [(o["signal"], o["source"], o["step_index"]) for o in ledger(desk)] == [
        ("helpful", "judge", 1),
        ("reopened", "ticketing", None),
    ]


def test_an_exception_fails_the_trajectory_and_goes_on(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with pytest.raises(ValueError, match="no such order"), recorder.trajectory(task_id="1") as recording:
        recording.step(role="user", content="Hello")
        raise ValueError("no such order for ann@x.org")
    recorder.close()
    [trajectory] = stored(desk)
    assert trajectory.end_state == "failed"
    assert trajectory.metadata == '{"error":"ValueError: no such order for <EMAIL>","redactions":{"EMAIL":1}}'


def test_a_trajectory_can_end_early_and_then_takes_nothing_more(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1") as recording:
        recording.end("partial")
        with pytest.raises(FlywheelError, match="has ended"):
            recording.step(role="user", content="more")
    recorder.close()
    assert [t.end_state for t in stored(desk)] == ["partial"]


def test_secrets_never_reach_the_disk(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1", metadata={"by": "ann@x.org"}) as recording:
        recording.step(role="user", content="I am ann@x.org")
        recording.step(role="assistant", tool_calls=[ToolCall(id="1", name="f", arguments='{"password": "summer"}')])
        recording.outcome("nice", 1.0, comment="says ann@x.org")
    written = b"".join(path.read_bytes() for path in desk.journals.rglob("*") if path.is_file())
    assert b"ann@x.org" not in written
    assert b"summer" not in written
    assert recorder.redactions == {"EMAIL": 3, "PASSWORD": 1}


@pytest.mark.parametrize(
    "step",
    [
        {"role": "robot"},
        {"role": "user", "content": 3},
        {"role": "user", "prompt_tokens": 2**70},
        {"role": "user", "at": datetime(2026, 1, 5)},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
    ],
)
def test_what_could_not_be_read_back_is_refused(desk: Home, step: dict[str, object]) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1") as recording:
        recording.step(role="user", content="fine")
        with pytest.raises(FlywheelError, match="cannot be recorded"):
            recording.step(**step)
    recorder.close()
    [trajectory] = stored(desk)
    assert [s.content for s in trajectory.steps] == ["fine"]


def test_other_refusals_say_what_is_wrong(desk: Home) -> None:
    with pytest.raises(FlywheelError, match="workspace create sales"):
        Recorder(desk, "sales", agent="bot")
    recorder = Recorder(desk, "desk", agent="bot")
    with pytest.raises(FlywheelError, match="not a finite number"):
        recorder.outcome("one", "score", float("nan"))
    for value in ("yes", None):
        with pytest.raises(FlywheelError, match="value is no number; write a success as 1"):
            recorder.outcome("one", "score", value)  # type: ignore[arg-type]
    with (
        pytest.raises(FlywheelError, match="metadata must be JSON"),
        recorder.trajectory(task_id="1", metadata={"x": object()}),
    ):
        pass
    with recorder.trajectory(task_id="1", id="one"):
        with pytest.raises(FlywheelError, match="its own id"), recorder.trajectory(task_id="1", id="one"):
            pass
        with pytest.raises(FlywheelError, match="recorded still"):
            recorder.close()
    other = Outcome(
        workspace="sales", trajectory_id="one", signal="s", value=1.0, source="x", observed_at=NOON, arrived_at=NOON
    )
    with pytest.raises(FlywheelError, match="not to 'sales'"):
        recorder.record(outcomes=[other])
    with pytest.raises(FlywheelError, match="time zone"):
        Recorder(desk, "desk", agent="bot", clock=lambda: datetime(2026, 1, 5)).outcome("one", "s", 1.0)


def test_a_recorder_that_wrote_nothing_leaves_no_file(desk: Home) -> None:
    Recorder(desk, "desk", agent="bot").close()
    assert not desk.journals.exists()


def test_whole_records_and_batches_are_written_with_one_flush(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot", clock=Clock())
    with recorder.batch(), recorder.trajectory(task_id="1", id="one") as recording:
        recording.step(role="user", content="Hello")
    recorder.close()
    [one] = stored(desk)
    recorder.record([one])  # the same id again is not stored again
    recorder.close()
    assert stored(desk) == [one]


def test_a_batch_is_of_one_thread_others_wait_for_the_disk(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, append = threading.Event(), journal.Journal.append

    def slow(self: journal.Journal, data: bytes, *, sync: bool = True) -> None:
        disk.wait(10)
        append(self, data, sync=sync)

    monkeypatch.setattr(journal.Journal, "append", slow)
    recorder = Recorder(desk, "desk", agent="bot")
    other = threading.Thread(target=recorder.outcome, args=("one", "s", 1.0))
    with recorder.batch():
        with recorder.batch():
            recorder.outcome("two", "s", 1.0)  # returns at once, also where blocks are within one another
        other.start()
        other.join(0.2)
        assert other.is_alive()
        disk.set()
    other.join(10)
    recorder.outcome("three", "s", 1.0)
    [path] = journal.paths(desk.journals / "desk")
    told = [event.outcome.trajectory_id for _, event in journal.read(path)[0] if isinstance(event, Told)]
    assert sorted(told) == ["one", "three", "two"]


def test_a_batch_may_end_in_another_context_than_it_began_in(desk: Home) -> None:
    recorder, here = Recorder(desk, "desk", agent="bot"), contextvars.copy_context()
    block = recorder.batch()
    here.run(block.__enter__)
    here.run(recorder.outcome, "one", "s", 1.0)
    block.__exit__(None, None, None)
    [path] = journal.paths(desk.journals / "desk")
    assert len(journal.read(path)[0]) == 1
    with recorder.batch():
        recorder.outcome("two", "s", 1.0)
    assert len(journal.read(path)[0]) == 2


def test_nothing_is_said_of_an_outcome_that_it_has_no_place_for(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with pytest.raises(TypeError, match="sorce"):
        recorder.outcome("one", "s", 1.0, sorce="checker")  # pyright: ignore[reportCallIssue]


def test_threads_may_share_a_recorder(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")

    def work(name: str) -> None:
        for number in range(5):
            with recorder.trajectory(task_id=name, id=f"{name}-{number}") as recording:
                recording.step(role="user", content=recording.id)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert sorted((t.id, t.steps[0].content) for t in stored(desk)) == sorted(
        (f"{name}-{n}", f"{name}-{n}") for name in "abcd" for n in range(5)
    )


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:lance is not fork-safe:UserWarning")  # which other tests have imported
def test_a_fork_writes_a_journal_of_its_own(desk: Home) -> None:
    recorder = Recorder(desk, "desk", agent="bot")
    with recorder.trajectory(task_id="1", id="parent") as recording:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                recording.step(role="user", content="mine?")
            except FlywheelError:
                with recorder.trajectory(task_id="1", id="child") as own:
                    own.step(role="user", content="mine")
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        recording.step(role="user", content="still here")
    recorder.close()
    assert {t.id: [s.content for s in t.steps] for t in stored(desk)} == {"parent": ["still here"], "child": ["mine"]}
    assert journal.paths(desk.journals / "desk") == []


def test_a_large_journal_gives_way_to_a_new_one(desk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.capture.journals.journal.ROTATE", 100)
    recorder = Recorder(desk, "desk", agent="bot")
    for _ in range(3):
        with recorder.trajectory(task_id="1") as recording:
            recording.step(role="user", content="x" * 100)
    assert len(journal.paths(desk.journals / "desk")) == 3
    assert len(stored(desk)) == 3


@pytest.mark.parametrize("seed", range(3))
def test_processes_killed_at_any_moment_lose_nothing_acknowledged(desk: Home, seed: int) -> None:
    dice = random.Random(seed)
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "flywheel_tests.capture.writer", str(desk.root), f"w{n}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        for n in range(3)
    ]
    first = [writer.stdout.readline() for writer in writers if writer.stdout]
    for writer in writers:
        time.sleep(dice.random() * 0.05)
        writer.send_signal(signal.SIGKILL)
    said = "".join(first) + "".join(writer.communicate()[0] for writer in writers)
    acknowledged = Counter(line for line in said.split("\n")[:-1] if line.count(" ") == 1)

    on_disk: Counter[str] = Counter()
    for path in journal.paths(desk.journals / "desk"):
        for _, event in journal.read(path)[0]:
            if isinstance(event, Said):
                on_disk[f"{event.id} {(event.step.content or '').removeprefix('step ')}"] += 1
            elif isinstance(event, Told):
                on_disk[f"{event.outcome.trajectory_id} outcome"] += 1
            elif isinstance(event, Ended):
                on_disk[f"{event.id} end"] += 1
    assert len(acknowledged) >= 3
    assert set(on_disk.values()) == {1}
    assert acknowledged.keys() <= on_disk.keys()

    trajectories = stored(desk)
    steps = Counter(f"{t.id} {i}" for t in trajectories for i in range(len(t.steps)))
    ends = Counter(f"{t.id} end" for t in trajectories if t.end_state == "completed")
    outcomes = Counter(f"{o['trajectory_id']} outcome" for o in ledger(desk))
    assert steps + ends + outcomes == on_disk
    assert journal.paths(desk.journals / "desk") == []
