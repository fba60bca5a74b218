"""Exchanges become trajectories: each answer is in exactly one as its own, after exactly what was sent before it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import artifacts, warehouse
from flywheel.capture import Recorder, workspaces
from flywheel.capture.importers.dialects import Message
from flywheel.capture.importers.spans import Span
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Closed, Event, Exchanged, Spanned, Whole, decoded
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling import pages
from flywheel.capture.settling import settle as settling
from flywheel.capture.settling.settle import settle
from flywheel.schema import QUARANTINE, TRAJECTORIES, Trajectory, stable_id, trajectory_of
from flywheel.settings import Home
from flywheel_tests.capture.events import whole
from flywheel_tests.capture.journals.test_threads import bot, call, user

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def at(seconds: float) -> dict[str, Any]:
    return {"started_at": NOON + seconds * SECOND, "ended_at": NOON + (seconds + 0.5) * SECOND}


def stored(home: Home) -> dict[str, Trajectory]:
    return {row["id"]: trajectory_of(row) for row in warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()}


def about(trajectory: Trajectory) -> dict[str, Any]:
    return msgspec.json.decode(trajectory.metadata)


def said(trajectory: Trajectory) -> list[tuple[str, str | None]]:
    return [(step.role, step.content) for step in trajectory.steps]


class Captured:
    """A workspace that calls are captured into, one after the other, a second apart."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.writer = Writer(home, "desk")
        self.threads = Threads(home, "desk", self.writer)
        self.clock = 0

    def __call__(self, id: str, messages: list[Message], *answers: Message, **fields: Any) -> Exchange:
        self.clock += 1
        return self.threads.put(call(id, messages, *answers, **(at(self.clock) | fields))).result(5)

    def tell(self, *events: Event) -> None:
        self.writer.put(events).result(5)

    def restart(self) -> None:
        self.writer.close()
        self.writer = Writer(self.home, "desk")
        self.threads = Threads(self.home, "desk", self.writer)

    def settle(self, now: datetime = NOON + HOUR) -> settling.Settled:
        return settle(self.home, "desk", now)


@pytest.fixture
def captured(desk: Home):
    captured = Captured(desk)
    yield captured
    captured.writer.close()


def test_calls_that_go_on_from_one_another_are_one_trajectory(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"), model="m", prompt_tokens=5, completion_tokens=1,
             details=[{"finish_reason": "stop", "token_ids": [7], "logprobs": [-0.5]}])  # fmt: skip
    captured("b", [user("1"), bot("2"), user("3")], bot("4"), model="m", details=[{"finish_reason": "length"}])
    assert captured.settle(NOON + 60 * SECOND).waiting == 1
    assert captured.settle().trajectories == 1
    [one] = stored(captured.home).values()
    assert (one.id, one.model, one.end_state, one.source) == ("a", "m", "completed", "gateway")
    assert said(one) == [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]
    assert about(one) == {"exchanges": ["a", "b"], "thread": "a"}
    assert [msgspec.json.decode(one.steps[n].metadata) for n in (1, 3)] == [
        {"exchange": "a", "finish_reason": "stop", "token_ids": [7], "logprobs": [-0.5]},
        {"exchange": "b", "finish_reason": "length"},
    ]
    assert [(step.prompt_tokens, step.completion_tokens) for step in one.steps[1::2]] == [(5, 1), (None, None)]
    assert (one.started_at, one.arrived_at) == (NOON + SECOND, NOON + HOUR)  # settled hours have closed its end


@pytest.mark.parametrize("exchanges", [5, "talk", [[1], {}], {"a": 1}, None])
def test_what_somebody_else_says_of_exchanges_stops_no_settling(captured: Captured, exchanges: Any) -> None:
    posted = whole("talk", "Hi").trajectory
    metadata = msgspec.json.encode({"exchanges": exchanges}).decode()
    captured.tell(Whole(msgspec.structs.replace(posted, metadata=metadata)))
    assert captured.settle(NOON + SECOND).trajectories == 1
    captured("a", [user("1")], bot("2"), thread="talk")
    assert captured.settle(NOON + 2 * HOUR).trajectories == 1
    assert len(stored(captured.home)) == 2


def test_tries_that_begin_alike_are_as_many_trajectories(captured: Captured) -> None:
    """At the same time, and with answers that are equal for a while: none is left over in the middle."""
    asked, further = [user("1")], [user("1"), bot("2"), user("3")]
    for n in range(3):
        captured(f"first{n}", asked, bot("2"))
    for n in range(2):
        captured(f"next{n}", further, bot("4"))
    captured("failed", further, state="failed", error="500")  # and is tried again
    captured("next2", further, bot("other"))
    captured("last", [*further, bot("4"), user("5")], bot("6"))
    assert captured.settle().trajectories == 3
    own = sorted((about(one)["exchanges"] for one in stored(captured.home).values()), key=lambda ids: (len(ids), ids))
    assert own == [["first2", "next0"], ["first0", "next2", "failed"], ["first1", "next1", "last"]]


def test_clients_go_on_with_the_first_of_equal_choices(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"), bot("2"))
    captured("b", [user("1"), bot("2"), user("3")], bot("4"))
    captured.settle()
    assert sorted(about(one)["exchanges"] for one in stored(captured.home).values()) == [["a", "b"], ["a#1"]]


def test_branches_tell_what_they_part_from(captured: Captured) -> None:
    captured("a", [user("1")], bot("x"), bot("y"), thread="t")
    captured("b", [user("1"), bot("x"), user("3")], bot("4"), thread="t")
    captured("c", [user("1"), bot("y"), user("3")], bot("5"), thread="t")
    captured("d", [user("summed up"), user("6")], bot("7"), thread="t")  # a rewritten history
    captured("e", [user("help")], bot("8"), thread="t")  # a sub-agent
    captured.settle()
    found = stored(captured.home)
    assert {
        id: (about(t)["exchanges"], about(t).get("branch_of"), about(t).get("fork")) for id, t in found.items()
    } == {
        "t": (["a", "b"], None, None),
        stable_id("t", "c"): (["a#1", "c"], "t", 1),
        stable_id("t", "d"): (["d"], "t", 0),
        stable_id("t", "e"): (["e"], "t", 0),
    }
    assert said(found[stable_id("t", "c")]) == [("user", "1"), ("assistant", "y"), ("user", "3"), ("assistant", "5")]


def test_a_thread_that_goes_on_after_it_was_stored_is_continued_by_another_trajectory(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"), thread="t")
    captured.tell(Closed("t", NOON + HOUR))
    assert captured.settle(NOON + 2 * SECOND).waiting == 1
    assert captured.settle(NOON + HOUR).trajectories == 1
    assert captured.settle(NOON + HOUR).trajectories == 0
    captured("b", [user("1"), bot("2"), user("3")], bot("4"), thread="t", started_at=NOON + HOUR, ended_at=NOON + HOUR)
    assert captured.settle(NOON + HOUR + SECOND).waiting == 0  # it was closed when it began
    later = stored(captured.home)[stable_id("t", "b")]
    assert said(later) == [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]
    assert about(later) == {"exchanges": ["b"], "thread": "t", "continues": "t"}
    # And once more when nothing is left of the journal.
    captured.restart()
    assert captured.settle(NOON + 2 * HOUR).journals_removed == 1
    history = [user("1"), bot("2"), user("3"), bot("4"), user("5")]
    captured("c", history, bot("6"), thread="t", started_at=NOON + 2 * HOUR, ended_at=NOON + 2 * HOUR)
    assert captured.settle(NOON + 3 * HOUR).trajectories == 1
    assert about(stored(captured.home)[stable_id("t", "c")])["continues"] == "t"


def test_a_restart_parts_nothing(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"))
    captured.restart()
    whole = captured("b", [user("1"), bot("2"), user("3")], bot("4"))
    captured("c", [user("1"), bot("2"), user("3"), bot("4"), user("5")], bot("6"))
    assert whole.after is None
    captured.settle()
    [one] = stored(captured.home).values()
    assert (one.id, about(one)["exchanges"], len(one.steps)) == ("a", ["a", "b", "c"], 6)
    # The first journal is gone, and the second, which is being written, says nothing anew.
    assert len(journal.paths(captured.home.journals / "desk")) == 1
    assert captured.settle(NOON + 2 * HOUR).trajectories == 0


def test_a_conversation_that_two_servers_took_in_turns_is_one_trajectory(captured: Captured) -> None:
    other = Captured(captured.home)
    talk = [user("1"), bot("2"), user("3"), bot("4"), user("5"), bot("6"), user("7"), bot("8")]
    captured("a", talk[:1], talk[1])
    other("b", talk[:3], talk[3], **at(2))
    assert captured("c", talk[:5], talk[5], **at(3)).after == "a"  # it does not know of b
    assert other("d", talk[:7], talk[7], **at(4)).after == "b"
    assert captured.settle().trajectories == 1
    [whole] = stored(captured.home).values()
    assert said(whole) == [(m["role"], m["content"]) for m in talk]
    assert about(whole) == {"exchanges": ["a", "b", "c", "d"], "thread": "a"}
    assert [msgspec.json.decode(step.metadata).get("exchange") for step in whole.steps[1::2]] == ["a", "b", "c", "d"]
    other.writer.close()


def test_a_settle_reads_of_a_living_journal_what_is_new_in_it(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(pages, "decoded", lambda line: read.append(line) or decoded(line))
    history: list[Message] = []
    for turn in range(5):
        history.append(user(f"{turn}"))
        captured(f"e{turn}", list(history), bot(f"answer {turn}"))
        history.append(bot(f"answer {turn}"))
        assert captured.settle(NOON + 60 * SECOND).waiting == 1
    assert len(read) == 5
    assert captured.settle().trajectories == 1
    [one] = stored(captured.home).values()
    assert len(one.steps) == 10 and len(read) == 5


def test_what_broke_off_is_partial_what_failed_is_failed_and_what_was_tried_again_is_told(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"))
    captured("b", [user("1"), bot("2"), user("3")], state="failed", error="429 slow down")
    captured("c", [user("1"), bot("2"), user("3")], bot("4, an"), state="partial", error="the client went away")
    captured("d", [user("else")], state="failed", error="500")
    captured.settle()
    found = stored(captured.home)
    assert {id: (t.end_state, about(t)["error"], about(t)["exchanges"], said(t)[-1]) for id, t in found.items()} == {
        "a": ("partial", "the client went away", ["a", "c", "b"], ("assistant", "4, an")),
        "d": ("failed", "500", ["d"], ("user", "else")),
    }
    [tried] = about(found["a"])["attempts"]
    assert (tried["exchange"], tried["state"], tried["error"]) == ("b", "failed", "429 slow down")


def test_an_attempt_after_its_answer_was_stored_is_stored_alone(captured: Captured) -> None:
    captured("a", [user("1")], bot("2"), thread="t")
    captured.settle()
    captured("b", [user("1")], thread="t", state="failed", error="500", started_at=NOON + HOUR, ended_at=NOON + HOUR)
    assert captured.settle(NOON + 2 * HOUR).trajectories == 1
    assert about(stored(captured.home)[stable_id("t", "b")])["exchanges"] == ["b"]


def test_what_was_said_of_the_task_is_told_of_the_trajectory(captured: Captured) -> None:
    task = {"task_id": "812", "task_type": "desk", "agent": "bot", "agent_version": "7"}
    captured("a", [user("1")], bot("2"), about={"api": "chat.completions", "parameters": {"temperature": 1}, **task})
    captured("b", [user("1"), bot("2"), user("3")], bot("4"), about={"parameters": {"temperature": 0}})
    captured.settle()
    [one] = stored(captured.home).values()
    assert (one.task_id, one.task_group, one.task_type, one.agent, one.agent_version) == (
        "812", "812", "desk", "bot", "7",
    )  # fmt: skip
    assert about(one)["api"] == "chat.completions" and about(one)["parameters"] == {"temperature": 0}
    assert msgspec.json.decode(one.steps[1].metadata)["parameters"] == {"temperature": 1}


def test_an_id_that_a_recorder_used_is_not_taken_twice(captured: Captured) -> None:
    recorder = Recorder(captured.home, "desk", agent="bot", clock=lambda: NOON)
    with recorder.trajectory(task_id="1", id="t"):
        pass
    recorder.close()
    captured("a", [user("1")], bot("2"), thread="t")
    captured("t", [user("3")], bot("4"))  # an exchange of that very id
    captured.settle()
    assert {id: about(t).get("exchanges") for id, t in stored(captured.home).items()} == {
        "t": None,
        stable_id("t", "a"): ["a"],
        stable_id("t", "t"): ["t"],
    }


def test_what_no_trajectory_can_be_made_of_is_set_aside(captured: Captured) -> None:
    captured("a", [{"role": "nobody", "content": "1"}], bot("2"))
    captured("b", [user("1")], bot("2"))
    assert captured.settle().quarantined == 1
    captured("c", [{"content": "no role"}], bot("2"))
    assert captured.settle().quarantined == 1
    captured.writer.close()
    assert captured.settle().journals_removed == 1
    assert list(stored(captured.home)) == ["b"]
    bad = warehouse.read(captured.home.quarantine, QUARANTINE, "desk").sort_by("line").to_pylist()
    assert [(row["line"], "nobody" in row["error"], "role" in row["error"]) for row in bad] == [
        (1, True, True),
        (3, False, True),
    ]
    [aside] = (captured.home.journals / "desk").glob("*.torn")
    assert b"nobody" in aside.read_bytes() and b"no role" in aside.read_bytes()


def span(id: str, *messages: Message, trace: str = "5" * 32, parent: str | None = None) -> Span:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": msgspec.json.encode(messages[:-1]).decode(),
        "gen_ai.output.messages": msgspec.json.encode(messages[-1:]).decode(),
    }
    return Span(trace=trace, id=id, parent=parent, attributes=attributes, **at(len(messages)))


def test_spans_of_a_trace_are_a_trajectory_and_late_ones_continue_it(captured: Captured) -> None:
    trace = "5" * 32
    captured.tell(Spanned(NOON, span("a", user("1"), bot("2"))), Spanned(NOON, span("s", user("sub"), bot("x"))))
    captured.restart()
    captured.tell(Spanned(NOON, span("b", user("1"), bot("2"), user("3"), bot("4"))))
    captured.tell(Spanned(NOON, span("a", user("1"), bot("2"))))  # sent twice
    assert captured.settle(NOON + SECOND).waiting == 1
    assert captured.settle().trajectories == 2
    found = stored(captured.home)
    assert said(found[trace]) == [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]
    assert about(found[trace])["exchanges"] == [f"{trace}:a", f"{trace}:b"]
    assert said(found[stable_id(trace, f"{trace}:s")]) == [("user", "sub"), ("assistant", "x")]
    assert captured.settle().trajectories == 0
    late = span("c", user("1"), bot("2"), user("3"), bot("4"), user("5"), bot("6"))
    captured.tell(Spanned(NOON + HOUR, late), Closed(trace, NOON + HOUR))
    assert captured.settle(NOON + HOUR).trajectories == 1
    later = stored(captured.home)[stable_id(trace, f"{trace}:c")]
    assert (about(later)["continues"], about(later)["exchanges"], len(later.steps)) == (trace, [f"{trace}:c"], 6)


# What clients, the network and operators do, as data: each draws on what was said before.
ACTIONS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(["", "", "t", "u"]), st.integers(0, 1), st.integers(0, 2)),
    st.tuples(st.just("go on"), st.integers(0, 30), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("go on"), st.integers(0, 3), st.integers(0, 2), st.integers(1, 2)),
    st.tuples(st.just("ask again"), st.integers(0, 30), st.just(0), st.integers(0, 2)),
    st.tuples(st.just("rewrite"), st.integers(0, 30), st.just(0), st.just(1)),
    st.tuples(st.just("send twice"), st.integers(0, 30), st.just(0), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([60, 1000]), st.just(0), st.just(0)),
    st.tuples(st.just("settle"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("settle"), st.integers(1, 6), st.just(0), st.just(0)),  # killed before so many-th write
    st.tuples(st.just("close"), st.sampled_from(["t", "u"]), st.just(0), st.just(0)),
)


class Killed(BaseException):
    """Stands for SIGKILL."""


@contextmanager
def killed_before(number: int) -> Iterator[None]:
    """A process that is killed before it makes its so many-th change to the data folder; 0: never."""
    left = number

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **fields: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return function(*args, **fields)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warehouse, "append", mortal(warehouse.append))
        patch.setattr(artifacts, "write_bytes", mortal(artifacts.write_bytes))
        patch.setattr(Path, "unlink", mortal(Path.unlink))
        yield


class World:
    """Clients that call, by two writers, and what they know they sent."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.servers = [Captured(home), Captured(home)]
        self.clock = 0
        self.asked: list[tuple[Exchange, str]] = []

    def act(self, action: tuple[str, Any, int, int]) -> None:
        kind, which, choice, answers = action
        self.clock += 1
        if kind == "begin":
            self.call([user(f"begin {choice}")], which, answers)
        elif kind == "restart":
            self.servers[self.clock % 2].restart()
        elif kind == "wait":
            self.clock += which
        elif kind == "settle":
            with killed_before(which), suppress(Killed):
                settle(self.home, "desk", NOON + self.clock * SECOND)
        elif kind == "close":
            self.servers[0].tell(Closed(which, NOON + self.clock * SECOND))
        elif self.asked:
            exchange, name = self.asked[-1 - which % len(self.asked)]
            if kind == "ask again":
                self.call(exchange.messages, name, answers)
            elif kind == "send twice":
                written = journal_of(self.home).get(exchange.id)
                if written and written.after is None:
                    self.servers[self.clock % 2].tell(Exchanged(written))
            elif kind == "rewrite":
                self.call([user("summed up"), *exchange.messages[-1:]], name, answers)
            elif exchange.answers:
                answer = exchange.answers[choice % len(exchange.answers)]
                self.call([*exchange.messages, *answer, user(f"on {choice}")], name, answers)

    def call(self, messages: list[Message], name: str, answers: int) -> None:
        """Have a server answer; what it says is often what it said before."""
        number = len(self.asked)
        said = [bot(f"answer {(number + n) % 3}") for n in range(answers)]
        state: Any = {} if said else {"state": "failed", "error": "500"}
        exchange = call(f"e{number}", messages, *said, thread=name, **at(self.clock), **state)
        self.servers[number % 2].threads.put(exchange).result(5)
        self.asked.append((exchange, name))


def journal_of(home: Home) -> dict[str, Exchange]:
    events = [event for path in journal.paths(home.journals / "desk") for _, event in journal.read(path)[0]]
    return {event.exchange.id: event.exchange for event in events if isinstance(event, Exchanged)}


def check(world: World, home: Home) -> None:
    """Every answer is in exactly one trajectory as its own, after what was sent."""
    owner: dict[str, str] = {}
    found = stored(home)
    for id, trajectory in found.items():
        for answer in about(trajectory)["exchanges"]:
            assert answer not in owner, f"{answer} is in {owner[answer]} and in {id}"
            owner[answer] = id
    expected = set()
    for exchange, name in world.asked:
        for choice, answer in enumerate(exchange.answers or [[]]):
            id = f"{exchange.id}#{choice}" if choice else exchange.id
            expected.add(id)
            trajectory = found[owner[id]]
            sent = [(message["role"], message["content"]) for message in [*exchange.messages, *answer]]
            assert said(trajectory)[: len(sent)] == sent
            if answer:
                assert msgspec.json.decode(trajectory.steps[len(sent) - 1].metadata)["exchange"] == id
            if name:
                assert about(trajectory)["thread"] == name
    assert owner.keys() == expected


@given(st.lists(ACTIONS, min_size=3, max_size=25))
@settings(max_examples=60)
def test_nothing_is_lost_doubled_or_altered_whatever_clients_and_settles_do(actions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, copy = Home(Path(folder) / "one"), Home(Path(folder) / "two")
        workspaces.create(home, "desk")
        workspaces.create(copy, "desk")
        world = World(home)
        for action in actions:
            if action[0] != "settle":
                world.act(action)
        for server in world.servers:
            server.writer.close()
        # All at once, from journals in another order of names: the same ids, and the same again.
        (copy.journals / "desk").mkdir(parents=True)
        for number, path in enumerate(reversed(journal.paths(home.journals / "desk"))):
            shutil.copy(path, copy.journals / "desk" / f"{number:032x}.jsonl")
        for one in (home, copy):
            assert settle(one, "desk", NOON + 10 * HOUR).quarantined == 0
            check(world, one)
            assert journal.paths(one.journals / "desk") == []
            assert settle(one, "desk", NOON + 11 * HOUR).trajectories == 0
        assert stored(home) == stored(copy)


@given(st.lists(ACTIONS, min_size=5, max_size=25))
@settings(max_examples=60)
def test_settling_on_the_way_loses_doubles_and_alters_nothing(actions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        workspaces.create(home, "desk")
        world = World(home)
        for action in actions:
            world.act(action)
        for server in world.servers:
            server.writer.close()
        assert settle(home, "desk", NOON + 10 * HOUR).waiting == 0
        check(world, home)
        assert journal.paths(home.journals / "desk") == []
