"""The recorder in asyncio and before functions: what is acknowledged is on disk, whoever waits for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from flywheel import warehouse
from flywheel.capture import Recorder, current
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Said
from flywheel.capture.journals.journal import Full, Journal
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError, Trajectory, trajectory_of
from flywheel.settings import Home
from flywheel_tests.capture.recorders.test_recorder import LATER


@pytest.fixture
def recorder(desk: Home) -> Iterator[Recorder]:
    made = Recorder(desk, "desk", agent="bot")
    yield made
    made.close()


def stored(home: Home, recorder: Recorder) -> list[Trajectory]:
    recorder.close()
    settle(home, "desk", LATER)
    return [trajectory_of(row) for row in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()]


def on_disk(home: Home) -> set[str]:
    events = [event for path in journal.paths(home.journals / "desk") for _, event in journal.read(path)[0]]
    return {event.step.content or "" for event in events if isinstance(event, Said)}


def test_tasks_share_flushes_and_each_knows_what_is_on_disk(desk: Home, recorder: Recorder) -> None:
    async def episode(number: int) -> None:
        async with recorder.trajectory(task_id=str(number), id=f"t-{number}") as t:
            assert current() is t
            for index in range(3):
                assert await t.astep(role="user", content=f"{number} {index}") == index
                assert f"{number} {index}" in on_disk(desk)
            await t.aoutcome("fine", 1.0)

    async def main() -> None:
        await asyncio.gather(*(episode(number) for number in range(20)))
        await recorder.aoutcome("t-0", "late", 0.0)

    asyncio.run(main())
    trajectories = stored(desk, recorder)
    assert sorted((t.id, t.end_state, [s.content for s in t.steps]) for t in trajectories) == sorted(
        (f"t-{n}", "completed", [f"{n} {i}" for i in range(3)]) for n in range(20)
    )
    assert warehouse.read(desk.outcomes, OUTCOMES, "desk").num_rows == 21


def test_other_tasks_go_on_while_a_disk_is_slow(
    desk: Home, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        released = asyncio.Event()
        loop, append = asyncio.get_running_loop(), Journal.append

        def slow(self: Journal, data: bytes, *, sync: bool = True) -> None:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
            append(self, data, sync=sync)

        monkeypatch.setattr(Journal, "append", slow)
        async with asyncio.timeout(30):
            telling = asyncio.create_task(recorder.aoutcome("t-1", "fine", 1.0))
            await asyncio.sleep(0.05)
            assert not telling.done()
            released.set()
            await telling

    asyncio.run(main())


def test_a_cancelled_task_leaves_a_partial_trajectory_and_a_failing_one_a_failed(
    desk: Home, recorder: Recorder
) -> None:
    async def endless() -> None:
        async with recorder.trajectory(task_id="1", id="endless") as t:
            await t.astep(role="user", content="Hello")
            await asyncio.sleep(3600)

    async def failing() -> None:
        async with recorder.trajectory(task_id="1", id="failing"):
            raise ValueError("no such order")

    async def main() -> None:
        task = asyncio.create_task(endless())
        while "Hello" not in on_disk(desk):
            await asyncio.sleep(0.01)
        task.cancel()
        results = await asyncio.gather(task, failing(), return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, ValueError]

    asyncio.run(main())
    states = {t.id: (t.end_state, t.metadata) for t in stored(desk, recorder)}
    assert states == {
        "endless": ("partial", '{"error":"CancelledError: "}'),
        "failing": ("failed", '{"error":"ValueError: no such order"}'),
    }


def test_each_call_of_a_recorded_function_is_a_trajectory(desk: Home, recorder: Recorder) -> None:
    @recorder.trajectory(task_id=lambda order, **_: f"order-{order}", task_type="desk", metadata={"shop": 3})
    def answer(order: int, *, aside: bool = False) -> str:
        """What is said of an order."""
        current().step(role="user", content=f"order {order}?")
        if aside:
            answer(order + 1)
        current().step(role="assistant", content=f"order {order}.")
        return f"{order}"

    assert answer.__doc__ == "What is said of an order."
    assert [answer(1), answer(2, aside=True)] == ["1", "2"]
    with pytest.raises(FlywheelError, match="nothing is being recorded"):
        current()
    said = {t.task_id + ("/inner" if "parent" in t.metadata else ""): t for t in stored(desk, recorder)}
    assert {id: [s.content for s in t.steps] for id, t in said.items()} == {
        f"order-{name}": [f"order {name[0]}?", f"order {name[0]}."] for name in ("1", "2", "3/inner")
    }
    assert f'"parent":"{said["order-2"].id}"' in said["order-3/inner"].metadata
    assert {t.task_type for t in said.values()} == {"desk"}


def test_coroutines_and_generators_are_recorded_too(desk: Home, recorder: Recorder) -> None:
    @recorder.trajectory(task_id="coroutine")
    async def coroutine() -> int:
        await current().astep(role="user", content="a")
        return 1

    @recorder.trajectory(task_id="generator")
    def generator(fail: bool) -> Iterator[int]:
        current().step(role="user", content="b")
        yield 1
        if fail:
            raise ValueError("broken")
        current().step(role="user", content="c")
        yield 2

    @recorder.trajectory(task_id="stream")
    async def stream() -> AsyncIterator[int]:
        await current().astep(role="user", content="d")
        yield 1
        await current().astep(role="user", content="e")
        yield 2

    async def main() -> None:
        assert await coroutine() == 1
        turns = []
        async for turn in stream():
            with pytest.raises(FlywheelError):
                current()  # between its turns, this is nobody's trajectory
            turns.append(turn)
        assert turns == [1, 2]

    asyncio.run(main())
    assert list(generator(False)) == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        list(generator(True))
    broken_off = generator(False)
    next(broken_off)
    broken_off.close()
    found = sorted((t.task_id, t.end_state, "".join(s.content or "" for s in t.steps)) for t in stored(desk, recorder))
    assert found == [
        ("coroutine", "completed", "a"),
        ("generator", "completed", "bc"),
        ("generator", "failed", "b"),
        ("generator", "partial", "b"),
        ("stream", "completed", "de"),
    ]


def test_what_cannot_be_opened_says_why(recorder: Recorder) -> None:
    with pytest.raises(FlywheelError, match="leave the id out"):
        recorder.trajectory(task_id="1", id="one")(lambda: None)
    with pytest.raises(FlywheelError, match="function of a call's arguments"), recorder.trajectory(task_id=str):
        pass
    opening = recorder.trajectory(task_id="1")
    with opening:
        pass
    with pytest.raises(FlywheelError, match="begun before"), opening:
        pass


def test_a_disk_that_fails_takes_nothing_and_what_was_said_before_goes_on_elsewhere(
    desk: Home, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with recorder.trajectory(task_id="1") as t:
        t.step(role="user", content="one")
        with monkeypatch.context() as patch:
            patch.setattr("flywheel.capture.journals.journal.os.fsync", failing)
            with pytest.raises(Full):
                t.step(role="user", content="lost")
        assert t.step(role="user", content="two") == 1
    assert len(journal.paths(desk.journals / "desk")) == 2
    [trajectory] = stored(desk, recorder)
    assert (trajectory.end_state, [s.content for s in trajectory.steps]) == ("completed", ["one", "two"])


def test_a_long_trajectory_keeps_its_journal_while_others_begin_new_ones(
    desk: Home, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flywheel.capture.journals.journal.ROTATE", 1000)
    with recorder.trajectory(task_id="1", id="long") as long:
        for number in range(30):
            long.step(role="user", content="x" * 100)
            if number % 10 == 0:
                with recorder.trajectory(task_id="2", id=f"short-{number}") as short:
                    short.step(role="user", content="y" * 2000)
    assert len(journal.paths(desk.journals / "desk")) == 3
    assert {t.id: len(t.steps) for t in stored(desk, recorder)} == {
        "long": 30, "short-0": 1, "short-10": 1, "short-20": 1,
    }  # fmt: skip
