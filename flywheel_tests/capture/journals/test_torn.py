"""A journal that a crash cut anywhere: its whole lines are stored, the torn one is set aside, and the work goes on."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.importers.spans import Span
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Closed, Event, Spanned
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling.settle import settle
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, trajectory_of
from flywheel.settings import Home
from flywheel_tests.capture.events import NOON, told, whole
from flywheel_tests.capture.journals.test_threads import bot, call, user

DAY = timedelta(days=1)
TALK = [user("Grüße"), bot("one"), user("2"), bot("two"), user("3"), bot("three")]


def spanned(number: int) -> Spanned:
    said = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in TALK]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": said[: 2 * number + 1],
        "gen_ai.output.messages": said[2 * number + 1 : 2 * number + 2],
    }
    second = NOON + timedelta(seconds=number)
    found = Span(trace="t" * 32, id=f"s{number}", name="chat", attributes=attributes, started_at=second)
    return Spanned(at=second, span=found, agent="bot")


SINGLE: list[Event] = [
    whole("w0", "of w0"),
    told("w0"),
    spanned(0),
    Closed("talk", NOON + DAY),
    spanned(1),
    whole("w1", "of w1"),
]


def written(home: Home) -> list[str]:
    """Write a conversation of three calls, and one event of each other kind; gives what each line holds."""
    workspaces.create(home, "desk")
    with Writer(home, "desk") as writer:
        threads = Threads(home, "desk", writer)
        for turn in range(3):
            threads.put(call(f"c{turn}", TALK[: 2 * turn + 1], TALK[2 * turn + 1], thread="talk")).result(5)
        for event in SINGLE:
            writer.put([event]).result(5)
    return ["c0", "c1", "c2", *(str(number) for number in range(len(SINGLE)))]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[str]]:
    home = Home(tmp_path_factory.mktemp("whole"))
    held = written(home)
    [path] = journal.paths(home.journals / "desk")
    return path.read_bytes(), held


def cut(home: Home, data: bytes) -> Path:
    """A folder as a crash left it, with a journal of these bytes."""
    workspaces.create(home, "desk")
    path = home.journals / "desk" / "dead.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_cut_at_any_byte_all_whole_lines_are_read(before: tuple[bytes, list[str]], desk: Home) -> None:
    data, _ = before
    path = cut(desk, data)
    events, _ = journal.read(path)
    for size in range(len(data)):
        *lines, tail = data[:size].split(b"\n")
        path.write_bytes(data[:size])
        found, torn = journal.read(path)
        assert found == events[: len(lines)]
        assert [(line.line, line.data) for line in torn] == ([(len(lines) + 1, tail)] if tail else [])


def test_what_was_cut_off_is_set_aside_and_what_is_sent_again_is_stored_once(
    before: tuple[bytes, list[str]], tmp_path: Path
) -> None:
    data, held = before
    at = 0
    for number, line in enumerate(data.splitlines(keepends=True)):
        for inside in (0, 1, len(line) // 2, len(line) - 1):  # the last: all but the end of the line
            home = Home(tmp_path / f"{number}-{inside}")
            path = cut(home, data[: at + inside])
            first = settle(home, "desk", NOON + DAY + DAY) if number % 2 else None
            with Writer(home, "desk") as writer:
                threads = Threads(home, "desk", writer)
                again = [name for name in held[number:] if name.startswith("c")]
                for name in again:
                    turn = int(name[1:])
                    threads.put(call(f"again-{name}", TALK[: 2 * turn + 1], TALK[2 * turn + 1], thread="talk"))
                for event in SINGLE if again else SINGLE[int(held[number]) :]:
                    writer.put([event])
            last = settle(home, "desk", NOON + DAY + DAY)
            assert (first.quarantined if first else 0) + last.quarantined == bool(inside)
            assert last.waiting == 0 and journal.paths(path.parent) == []
            assert settle(home, "desk", NOON + DAY + DAY).quarantined == 0
            check(home, {name: f"again-{name}" if name in again else name for name in held if name[0] == "c"})
            if inside:
                assert path.with_suffix(".torn").read_bytes() == line[:inside] + b"\n"
                [error] = warehouse.read(home.quarantine, QUARANTINE, "desk")["error"].to_pylist()
                assert error == "the line was cut off"
        at += len(line)


def check(home: Home, calls: dict[str, str]) -> None:
    """Each call is in one trajectory as its own after what was asked, and so is each of the others."""
    stored = [trajectory_of(row) for row in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()]
    own: Counter[str] = Counter()
    for trajectory in stored:
        if trajectory.source != "test":
            own.update(msgspec.json.decode(trajectory.metadata)["exchanges"])
            said = [{"role": step.role, "content": step.content} for step in trajectory.steps]
            assert said == TALK[: len(said)]
    trace = "t" * 32
    assert own == Counter([*calls.values(), f"{trace}:s0", f"{trace}:s1"])
    assert sorted(t.id for t in stored if t.source == "test") == ["w0", "w1"]
    assert warehouse.read(home.outcomes, OUTCOMES, "desk")["trajectory_id"].to_pylist() == ["w0"]


def test_a_line_that_a_living_writer_has_not_ended_is_left_to_it(desk: Home) -> None:
    with Writer(desk, "desk") as writer:
        name = writer.put([whole("w0", "of w0")]).result(5)
        path = desk.journals / "desk" / name
        with path.open("ab") as file:  # as a flush that is under way
            file.write(b'{"event":"who')
        assert settle(desk, "desk", NOON + DAY).quarantined == 0
    settled = settle(desk, "desk", NOON + DAY)
    assert (settled.quarantined, settled.journals_removed) == (1, 1)
