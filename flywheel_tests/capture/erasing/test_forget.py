"""Forgetting what was captured: whom it is about goes from every place, comes back by no way, and others stay."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel import warehouse
from flywheel.capture import Recorder
from flywheel.capture.erasing import forget
from flywheel.capture.erasing.erasure import Erasure, Tombstones, records
from flywheel.capture.erasing.traces import Asked, find
from flywheel.capture.feedback import ledger
from flywheel.capture.importers.spans import Span
from flywheel.capture.ingest import ingest
from flywheel.capture.journals import journal
from flywheel.capture.journals.events import Closed, SetAside, Spanned
from flywheel.capture.journals.threads import Threads
from flywheel.capture.journals.writer import Writer
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.capture.settling.settle import settle
from flywheel.schema import (
    OUTCOMES,
    QUARANTINE,
    TRAJECTORIES,
    FlywheelError,
    Quarantined,
    Step,
    ToolCall,
    Trajectory,
    stable_id,
)
from flywheel.settings import Home
from flywheel_tests.capture.journals.test_threads import bot, call, user

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = MONDAY + timedelta(days=9)
JANE = Asked(subjects=("Jane Doe",))


def erase(home: Home, asked: Asked) -> Erasure:
    """What `flywheel forget` does to captures: under the workspace's lock, look, write it down, and do it."""
    with Arrivals(home, "desk").locked():
        record = forget.begin(home, "desk", asked, find(home, "desk", asked), now=LATER)
        return forget.end(home, forget.finish(home, record), LATER)


def episode(id: str, said: str = "Hello", **fields) -> Trajectory:
    steps = (Step(role="user", content=said), Step(role="assistant", content="Done."))
    given = {"task_id": "1", "task_group": "1", "task_type": "chat", "agent": "bot", "steps": steps} | fields
    return Trajectory(id=id, workspace="desk", end_state="completed", arrived_at=MONDAY, source="test", **given)


def record(home: Home, *trajectories: Trajectory, **comments: str) -> None:
    """Episodes in one journal and one file, each with an outcome; and comments on them."""
    with closing(Recorder(home, "desk", agent="bot", clock=lambda: MONDAY)) as recorder:
        recorder.record(trajectories)
        for trajectory in trajectories:
            recorder.outcome(trajectory.id, "done", 1.0, comment=comments.get(trajectory.id, ""))
    settle(home, "desk", MONDAY)


def ids(home: Home) -> list[str]:
    return sorted(warehouse.read(home.captures, TRAJECTORIES, "desk")["id"].to_pylist())


def told(home: Home) -> list[str]:
    return sorted(warehouse.read(home.outcomes, OUTCOMES, "desk")["trajectory_id"].to_pylist())


def holds(home: Home, text: str) -> list[str]:
    """The files below the data folder in which a text stands, whatever they are written as."""
    found = []
    for path in sorted(p for p in home.root.rglob("*") if p.is_file()):
        rows = str(pq.ParquetFile(path).read().to_pylist()) if path.suffix == ".parquet" else ""
        if text.lower() in rows.lower() or text.lower().encode() in path.read_bytes().lower():
            found.append(str(path.relative_to(home.root)))
    return found


CALL = ToolCall(id="1", name="look_up", arguments='{"name": "Jane Doe"}')


@pytest.mark.parametrize(
    "about",
    [
        episode("x", "I am jane DOE."),
        episode("x", steps=(Step(role="assistant", tool_calls=(CALL,)),)),
        episode("x", steps=(Step(role="assistant", reasoning="Jane Doe waits"),)),
        episode("x", steps=(Step(role="user", content="Hi", metadata='{"from": "Jane Doe"}'),)),
        episode("x", metadata='{"customer": "Jane Doe"}'),
        episode("x", task_id="ticket of Jane Doe"),
    ],
)
def test_a_person_is_found_anywhere_in_an_episode(desk, about):
    record(desk, episode("a", "I am Janet Doerr."), about)
    traces = find(desk, "desk", JANE)
    assert traces.ids == ["x"]
    assert traces.counts == {
        "trajectories": 1,
        "captured rows": 1,
        "outcomes": 1,
        "journal lines": 0,
        "quarantined": 0,
    }
    erase(desk, JANE)
    assert (ids(desk), told(desk), holds(desk, "jane doe")) == (["a"], ["a"], [])


def test_an_episode_goes_by_what_was_told_of_it(desk):
    record(desk, episode("a"), episode("b"), b="Jane Doe called again")
    erase(desk, JANE)
    assert (ids(desk), told(desk), holds(desk, "jane doe")) == (["a"], ["a"], [])


def test_an_episode_goes_by_its_id_and_one_of_the_same_content_is_named(desk):
    record(desk, episode("a"), episode("b"), episode("c", "Something else"))
    assert find(desk, "desk", Asked(trajectories=("a",))).alike == ("b",)
    done = erase(desk, Asked(trajectories=("a",)))
    assert ids(desk) == ["b", "c"]
    assert (done.asked, done.captured) == ({"subjects": 0, "trajectories": 1}, True)


def test_the_record_leads_from_each_file_to_the_one_without(desk):
    record(desk, episode("a"), episode("x", "Jane Doe"))
    record(desk, episode("y", "Jane Doe again"))
    before = {str(p.relative_to(desk.root)) for p in warehouse.files(desk.captures) + warehouse.files(desk.outcomes)}
    done = erase(desk, JANE)
    assert done.replaced is not None and set(done.replaced) == before
    after = {str(p.relative_to(desk.root)) for p in warehouse.files(desk.captures) + warehouse.files(desk.outcomes)}
    assert set(done.replaced.values()) == after | {""}
    assert len(done.trajectories) == 2 and "x" not in done.trajectories


def test_what_was_erased_comes_back_by_no_way(desk):
    record(desk, episode("a"), episode("x", "Jane Doe"))
    erase(desk, JANE)
    with closing(Recorder(desk, "desk", agent="bot", clock=lambda: LATER)) as recorder:
        recorder.record([episode("x", "Jane Doe"), episode("b")])
        recorder.outcome("x", "done", 0.0)
    settled = settle(desk, "desk", LATER)
    assert (settled.trajectories, settled.outcomes, settled.erased) == (1, 0, 2)
    with pytest.raises(FlywheelError, match="'x' of workspace 'desk' was erased"):
        ledger.tell(desk, "desk", "x", "done", 1.0)
    assert (ids(desk), told(desk), holds(desk, "jane doe")) == (["a", "b"], ["a"], [])


def test_a_file_that_is_imported_again_brings_only_what_may_come(desk, tmp_path):
    said = [{"role": "user", "content": "I am Jane Doe"}, {"role": "assistant", "content": "Hello"}]
    other = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
    lines = [json.dumps({"messages": said}), json.dumps({"messages": other}), '{"messages": "Jane Doe, cut of']
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(lines))
    first = ingest(desk, [path], "desk", "openai-chat", MONDAY).total
    assert (first.added, first.quarantined) == (2, 1)
    done = erase(desk, JANE)
    assert (done.counts["trajectories"], done.counts["quarantined"]) == (1, 1)
    again = ingest(desk, [path], "desk", "openai-chat", LATER).total
    assert (again.records, again.added, again.already_there, again.erased, again.quarantined) == (3, 0, 1, 2, 0)
    assert warehouse.read(desk.quarantine, QUARANTINE, "desk").num_rows == 0
    assert holds(desk, "jane doe") == []


def test_a_living_writer_goes_on_while_what_it_said_is_overwritten(desk):
    recorder = Recorder(desk, "desk", agent="bot", clock=lambda: MONDAY)
    with recorder.trajectory(task_id="1", id="x") as x, recorder.trajectory(task_id="1", id="a") as a:
        a.step(role="user", content="Hello")
        x.step(role="user", content="I am Jane Doe")
        assert find(desk, "desk", JANE).counts["journal lines"] == 2
        erase(desk, JANE)
        assert holds(desk, "jane doe") == []
        x.step(role="user", content="Jane Doe, as I said")
        a.step(role="user", content="Good bye")
    settled = settle(desk, "desk", LATER)
    assert (settled.trajectories, settled.quarantined, settled.erased) == (1, 0, 0)
    assert holds(desk, "jane doe") == []
    recorder.close()
    settle(desk, "desk", LATER)
    [row] = warehouse.read(desk.captures, TRAJECTORIES, "desk").to_pylist()
    assert (row["id"], [step["content"] for step in row["steps"]]) == ("a", ["Hello", "Good bye"])


def test_a_line_whose_overwriting_was_interrupted_is_passed_over_and_finished(desk):
    with closing(Recorder(desk, "desk", agent="bot", clock=lambda: MONDAY)) as recorder:
        recorder.record([episode("a"), episode("x", "Jane Doe")])
    [path] = journal.paths(desk.journals / "desk")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + b" " * 9 + second[9:] + b"\n")
    assert [event.trajectory.id for _, event in journal.read(path)[0]] == ["a"] and not journal.read(path)[1]
    journal.erase(path, lambda line: False)
    assert path.read_bytes() == first + b"\n" + b" " * len(second) + b"\n"


def test_torn_lines_that_name_the_person_go_too(desk):
    folder = desk.journals / "desk"
    folder.mkdir(parents=True)
    (folder / "dead.jsonl").write_bytes(b'{"event": "said", "id": "x", "Jane Doe\nnonsense\n{"event": "sa')
    settle(desk, "desk", MONDAY)
    assert len(holds(desk, "jane doe")) == 2
    (folder / "other.jsonl").write_bytes(b'{"event": "said", "id": "y", "Jane Doe')
    done = erase(desk, JANE)
    assert holds(desk, "jane doe") == []
    assert done.counts["quarantined"] == 1
    assert {row["excerpt"] for row in warehouse.read(desk.quarantine, QUARANTINE).to_pylist()} == {
        "nonsense",
        '{"event": "sa',
    }


def bad(excerpt: str) -> SetAside:
    return SetAside(
        Quarantined(workspace="desk", source="http", line=1, error="no JSON", excerpt=excerpt, arrived_at=MONDAY)
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_refused_input_goes_from_a_living_journal_and_never_comes_back(desk, stored):
    record(desk, episode("a"), episode("x", "Jane Doe"))
    inputs = [bad("I am Jane Doe"), bad('{"id": "x", "steps": ['), bad('{"id": "a", "steps": [')]
    with Writer(desk, "desk") as writer:
        writer.put(inputs).result(5)
        if stored:
            settle(desk, "desk", LATER)
        done = erase(desk, JANE)
        assert (done.counts["journal lines"], done.counts["quarantined"]) == (2, 2 * stored)
        assert (len(done.inputs), len(done.trajectories)) == (2, 1)
        assert holds(desk, "jane doe") == []
        writer.put(inputs).result(5)
        settled = settle(desk, "desk", LATER)
        assert (settled.quarantined, settled.erased) == (not stored, 2)
        assert holds(desk, "jane doe") == []
    [row] = warehouse.read(desk.quarantine, QUARANTINE, "desk").to_pylist()
    assert (row["excerpt"], ids(desk)) == ('{"id": "a", "steps": [', ["a"])


@pytest.mark.parametrize("moment", ["begun", "written", "noted", "one removed"])
def test_an_erasure_that_was_left_is_finished_by_whoever_holds_the_workspace_next(desk, monkeypatch, moment):
    record(desk, episode("a"), episode("x", "Jane Doe"))
    record(desk, episode("b"), episode("y", "Jane Doe too"))

    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    begun = forget.begin(desk, "desk", JANE, find(desk, "desk", JANE), now=LATER)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        if moment == "begun":
            raise Killed
        if moment == "written":
            patched.setattr(forget, "save", kill)
        if moment == "noted":
            patched.setattr("pathlib.Path.unlink", kill)
        if moment == "one removed":
            patched.setattr(forget.artifacts, "sweep", kill)
        forget.finish(desk, begun)
    settle(desk, "desk", LATER)
    [done] = records(desk)
    assert done.captured and done.replaced is not None and len(done.replaced) == 4
    assert (ids(desk), told(desk), holds(desk, "jane doe")) == (["a", "b"], ["a", "b"], [f"erasures/{done.id}.json"])


def test_tombstones_are_asked_by_id_in_tables_too(desk):
    record(desk, episode("a"), episode("x", "Jane Doe"))
    done = erase(desk, JANE)
    stones = Tombstones(records(desk, "desk"))
    rows = warehouse.read(desk.captures, TRAJECTORIES).select(["id"])
    assert stones.named(["a", "x"]) == {"x"}
    assert stones.among(rows, "id").num_rows == 0
    assert stones.among(pa.table({"id": ["a", "x"]}), "id").to_pylist() == [{"id": "x", "erasure": done.id}]
    assert not Tombstones(records(desk, "other"))


def test_a_record_that_cannot_be_read_stops_whoever_would_let_something_in(desk):
    (desk.erasures).mkdir(parents=True)
    (desk.erasures / "20260101T000000Z-00000000.json").write_text("{")
    with pytest.raises(FlywheelError, match="bring it back from a copy"):
        settle(desk, "desk", LATER)


def test_a_conversation_under_way_goes_from_the_journal_and_never_comes_back(desk):
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        threads.put(call("a", [user("I am Jane Doe")], bot("Hello"))).result(5)
        threads.put(call("x", [user("I am Ann")], bot("Hello"))).result(5)
        writer.put([Spanned(MONDAY, Span(trace="5" * 32, id="s", name="Jane Doe calls", attributes={}))]).result(5)
        done = erase(desk, JANE)
        assert done.counts["journal lines"] == 2 and holds(desk, "jane doe") == []
        # The agent goes on, and more of the trace comes in.
        threads.put(call("b", [user("I am Jane Doe"), bot("Hello"), user("Well?")], bot("Well."))).result(5)
        threads.put(call("c", [user("I am Jane Doe"), bot("Hello"), user("Well?"), bot("Well."), user("?")])).result(5)
        writer.put([Spanned(MONDAY, Span(trace="5" * 32, id="t", attributes={})), Closed("a", LATER)]).result(5)
        assert settle(desk, "desk", LATER).erased == 3
        assert holds(desk, "Well") == []
    assert settle(desk, "desk", LATER).journals_removed == 1
    assert ids(desk) == ["x"]


def test_a_conversation_that_has_a_name_goes_by_it_stored_or_not(desk):
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        threads.put(call("a", [user("1")], bot("2"), thread="ticket of jane.doe")).result(5)
        settle(desk, "desk", LATER)
        threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"), thread="ticket of jane.doe")).result(5)
        erase(desk, Asked(subjects=("jane.doe",)))
        assert holds(desk, "jane.doe") == []
        threads.put(call("c", [user("1")], bot("2"), thread="ticket of jane.doe")).result(5)
        assert settle(desk, "desk", LATER).erased == 1
    assert (ids(desk), holds(desk, "jane.doe")) == ([], [])


def test_a_conversation_goes_under_whatever_name_it_goes_on(desk):
    histories = [[user("1")], [user("1"), bot("2"), user("secret")]]
    for id, history in zip("ab", histories, strict=True):  # a restart between them
        with Writer(desk, "desk") as writer:
            Threads(desk, "desk", writer).put(call(id, history, bot("2"))).result(5)
    erase(desk, Asked(trajectories=("a",)))
    assert holds(desk, "secret") == []
    assert (settle(desk, "desk", LATER).trajectories, ids(desk)) == (0, [])


def test_a_branch_goes_by_its_id_and_what_it_parted_from_stays(desk):
    with Writer(desk, "desk") as writer:
        threads = Threads(desk, "desk", writer)
        threads.put(call("a", [user("1")], bot("2"), thread="t")).result(5)
        threads.put(call("b", [user("1"), bot("2"), user("3")], bot("4"), thread="t")).result(5)
        threads.put(call("c", [user("1"), bot("2"), user("secret")], bot("5"), thread="t")).result(5)
        settle(desk, "desk", LATER)
        branch = stable_id("t", "c")
        assert ids(desk) == sorted(["t", branch])
        erase(desk, Asked(trajectories=(branch,)))
        assert holds(desk, "secret") == []
        late = [user("1"), bot("2"), user("secret"), bot("5"), user("goes on")]
        threads.put(call("d", late, bot("6"), thread="t")).result(5)
        assert settle(desk, "desk", LATER + timedelta(days=1)).erased == 1
        threads.put(call("e", [*late, bot("6"), user("and on")], bot("7"), thread="t")).result(5)
    assert settle(desk, "desk", LATER + timedelta(days=1)).erased == 1
    assert (ids(desk), holds(desk, "secret"), holds(desk, "goes on"), holds(desk, "and on")) == (["t"], [], [], [])
