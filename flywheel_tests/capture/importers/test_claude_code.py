"""Claude Code sessions as trajectories."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture import workspaces
from flywheel.capture.importers import claude_code, sessions
from flywheel.capture.importers.documents import Piece
from flywheel.capture.importers.records import Bad, Record
from flywheel.capture.importers.sessions import Line
from flywheel.capture.ingest import ingest
from flywheel.schema import Step, ToolCall, Trajectory
from flywheel.settings import Home
from flywheel_tests.capture.importers.conftest import NOW, Read


def line(uuid: str, parent: str | None, content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    """A line of session `s`; what a message has beyond its content is given as `message`."""
    message = {"role": role, "content": content} | more.pop("message", {})
    base = {"type": role, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "isSidechain": False}
    return base | {"message": message} | more


def said(uuid: str, parent: str | None, *blocks: dict[str, Any], id: str | None = None, **more: Any) -> dict[str, Any]:
    """A line of the assistant."""
    return line(uuid, parent, list(blocks), "assistant", message={"id": id or uuid, "model": "claude-x"}, **more)


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def use(id: str, name: str = "Read", **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def result(id: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def trajectories(read: Read, *lines: dict[str, Any]) -> list[Trajectory]:
    records = read(list(lines), "session.jsonl")
    assert all(isinstance(record, Record) and record.outcomes == () for record in records), records
    return [record.trajectory for record in records if isinstance(record, Record)]


def told(trajectory: Trajectory) -> list[str | None]:
    """What each step says."""
    return [step.content for step in trajectory.steps]


def about(trajectory: Trajectory) -> dict[str, Any]:
    return json.loads(trajectory.metadata)


def test_a_streamed_message_is_one_step_and_results_that_fork_from_its_parts_are_of_one_path(read: Read) -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7, "output_tokens": 1}
    parts: dict[str, Any] = {"id": "m"}
    [t] = trajectories(
        read,
        {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}},
        {"type": "summary", "summary": "Two files", "leafUuid": "6"},
        line("1", None, "Read both.", cwd="/p", gitBranch="main", timestamp="2026-01-02T03:04:05.000Z", version="2.0"),
        said("2", "1", {"type": "thinking", "thinking": "Both at once.", "signature": "S"}, **parts),
        {"type": "progress", "uuid": "2p", "parentUuid": "2", "sessionId": "s", "isSidechain": False},
        said("3", "2p", use("a", path="x"), **parts),
        line("4", "3", [result("a", [text("ex"), {"type": "image", "source": {}}])]),
        line("5", "3b", [result("b", "no", is_error=True)]),
        line("3b", "3", [use("b", path="y")], "assistant", message={"id": "m", "model": "claude-x", "usage": usage}),
        said("6", "5", text("Done.")),
    )
    assert t.steps == (
        Step(role="user", content="Read both.", at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        Step(
            role="assistant",
            reasoning="Both at once.",
            tool_calls=(
                ToolCall(id="a", name="Read", arguments='{"path":"x"}'),
                ToolCall(id="b", name="Read", arguments='{"path":"y"}'),
            ),
            prompt_tokens=100,
            completion_tokens=1,
            metadata='{"cache_creation_input_tokens":7,"cache_read_input_tokens":90,"message_id":"m","model":"claude-x"}',
        ),
        Step(
            role="tool",
            content="ex",
            tool_call_id="a",
            tool_name="Read",
            metadata='{"parts":[{"source":{},"type":"image"}]}',
        ),
        Step(role="tool", content="no", tool_call_id="b", tool_name="Read", is_error=True),
        Step(role="assistant", content="Done.", metadata='{"message_id":"6","model":"claude-x"}'),
    )
    assert (t.task_id, t.task_group, t.task_type) == ("claude-code-s", "claude-code-s", "claude-code")
    assert (t.agent, t.agent_version, t.model, t.provider) == ("claude-code", "2.0", "claude-x", "anthropic")
    assert (t.end_state, t.started_at, t.source_line) == ("completed", t.steps[0].at, 3)
    told_of = about(t)
    assert (told_of["session"], told_of["title"], told_of["cwd"], told_of["leaf"]) == ("s", "Two files", "/p", "6")


def test_results_told_between_the_parts_of_a_message_follow_it(read: Read) -> None:
    [t] = trajectories(
        read,
        line("1", None, "Go."),
        said("2", "1", use("a"), id="m"),
        line("3", "2", [result("a", "A")]),
        said("4", "3", use("b"), id="m"),
        line("5", "4", [result("b", "B")]),
    )
    assert [(s.role, s.content, len(s.tool_calls)) for s in t.steps] == [
        ("user", "Go.", 0),
        ("assistant", None, 2),
        ("tool", "A", 0),
        ("tool", "B", 0),
    ]
    assert t.end_state == "partial"


def test_a_rewritten_history_is_a_trajectory_of_its_own(read: Read) -> None:
    one, other = trajectories(
        read,
        line("1", None, "Hi."),
        said("2", "1", text("Hello.")),
        line("3", "2", "Do A."),
        said("4", "3", text("A.")),
        line("5", "2", "Do B."),
        said("6", "5", text("B.")),
    )
    assert told(one) == ["Hi.", "Hello.", "Do A.", "A."]
    assert told(other) == ["Hi.", "Hello.", "Do B.", "B."]
    assert one.id != other.id
    assert one.task_group == other.task_group
    assert [about(t)["rewritten"] for t in (one, other)] == [1, 1]


def test_many_dead_ends_begin_where_they_part(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ALLOWANCE", 0)
    monkeypatch.setattr(sessions, "MANY", 1)
    stem = [line(f"u{n}", f"u{n - 1}" if n else None, f"s{n}") for n in range(5)]
    ends = [line(f"d{n}", "u4", f"d{n}") for n in range(3)]
    paths = trajectories(read, *stem, *ends)
    assert [told(t) for t in paths] == [["d0"], ["d1"], ["s0", "s1", "s2", "s3", "s4", "d2"]]
    assert [about(t).get("follows") for t in paths] == ["u4", "u4", None]


def test_a_session_of_dead_ends_alone_is_read_in_time_that_grows_with_it() -> None:
    data: Any = b"x" * 10_000

    def said_at(at: int, parent: int) -> Line:
        before = f"u{parent}" if parent >= 0 else None
        return Line(piece=Piece(data, at, at + 1, at), uuid=f"u{at}", parent=before, session="s", role="user")

    lines = [said_at(n, n - 1) for n in range(4000)] + [said_at(n, 3999) for n in range(4000, 8000)]
    found, _ = sessions.ways(lines)
    assert len(found) == 4000
    assert sum(len(way.lines) for way in found) <= sessions.MANY * len(lines) + len(lines)


def test_a_call_that_was_answered_twice_is_a_rewritten_history(read: Read) -> None:
    start = [line("1", None, "Go."), said("2", "1", use("a"))]
    one, other = trajectories(read, *start, line("3", "2", [result("a", "x")]), line("4", "2", [result("a", "y")]))
    assert [told(one)[-1], told(other)[-1]] == ["x", "y"]


def test_a_sub_agent_is_a_trajectory_of_its_own(read: Read) -> None:
    side = {"isSidechain": True, "agentId": "q1"}
    sub, main = trajectories(
        read,
        line("1", None, "Ask someone."),
        said("2", "1", use("a", "Task", prompt="Count.")),
        line("s1", "2", "Count.", **side),
        said("s2", "s1", text("Three."), **side),
        line("3", "2", [result("a", "Three.")]),
        said("4", "3", text("It is three.")),
    )
    assert told(main) == ["Ask someone.", None, "Three.", "It is three."]
    assert told(sub) == ["Count.", "Three."]
    assert (sub.task_type, sub.task_id, sub.task_group) == (
        "claude-code/sub-agent",
        "claude-code-s-s1",
        "claude-code-s",
    )
    assert (about(sub)["sub_agent"], about(sub)["follows"]) == ("q1", "2")
    assert "sub_agent" not in about(main)


def test_a_compacted_history_begins_anew_and_says_what_it_follows(read: Read) -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "b", "parentUuid": None, "sessionId": "s"}
    before, after = trajectories(
        read,
        line("1", None, "Hi."),
        said("2", "1", text("Hello.")),
        boundary | {"logicalParentUuid": "2", "isSidechain": False},
        line("3", "b", "So far: greetings.", isCompactSummary=True),
        said("4", "3", text("On.")),
    )
    assert (told(before), told(after)) == (["Hi.", "Hello."], ["So far: greetings.", "On."])
    assert about(after)["follows"] == "2"
    assert after.steps[0].metadata == '{"is_compact_summary":true}'


def test_sessions_of_one_file_stay_apart_and_one_that_goes_on_under_another_name_is_followed(read: Read) -> None:
    one, other, resumed = trajectories(
        read,
        line("1", None, "Hi."),
        line("1", None, "You there?", sessionId="t"),
        said("2", "1", text("Yes."), sessionId="t"),
        line("3", None, "Alpha."),
        said("4", "3", text("Beta."), sessionId="u"),
    )
    assert [told(t) for t in (one, other, resumed)] == [["Hi."], ["You there?", "Yes."], ["Alpha.", "Beta."]]
    assert [t.task_group for t in (one, other)] == ["claude-code-s", "claude-code-t"]
    assert about(resumed)["sessions"] == ["s", "u"]


def test_what_the_program_said_in_the_models_place_is_no_step(read: Read) -> None:
    synthetic = {"id": "e", "model": "<synthetic>"}
    error = line("2", "1", [text("API Error: 529")], "assistant", message=synthetic, isApiErrorMessage=True)
    [failed] = trajectories(read, line("1", None, "Hi."), error)
    assert (told(failed), failed.end_state, about(failed)["notices"]) == (["Hi."], "failed", ["API Error: 529"])
    [went_on] = trajectories(
        read, line("1", None, "Hi."), error, line("3", "2", "Again."), said("4", "3", text("Yes."))
    )
    assert (told(went_on), went_on.end_state) == (["Hi.", "Again.", "Yes."], "completed")


def test_a_bad_line_costs_itself_and_parts_what_it_joined(read: Read) -> None:
    lines = [
        line("1", None, "Hi."),
        {"type": "assistant", "uuid": "2", "parentUuid": "1", "sessionId": "s"},
        line("3", "2", "And?"),
        line("4", "5", "Round"),
        line("5", "4", "and round."),
        line("1", None, "Hi."),
        line("1", None, "Not I."),
    ]
    first, no_message, second, ring, ring_2, twice = read(lines, "session.jsonl")
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (told(first.trajectory), told(second.trajectory)) == (["Hi."], ["And?"])
    assert about(second.trajectory)["follows"] == "2"
    assert [b.line for b in (no_message, ring, ring_2, twice) if isinstance(b, Bad)] == [2, 4, 5, 7]
    assert isinstance(no_message, Bad)
    assert no_message.error == "line 2: this assistant line has no message"
    assert isinstance(ring, Bad)
    assert "form a ring" in ring.error
    assert isinstance(twice, Bad)
    assert "has its uuid" in twice.error


@pytest.mark.parametrize("broken", ["", "[]", "nothing", '{"type":"user","uuid":"9","timestamp":"noon","message":{}}'])
def test_what_is_no_line_of_a_session(read: Read, tmp_path: Path, broken: str) -> None:
    [alone] = read([line("1", None, "Hi.")], "session.jsonl")
    path = tmp_path / "results" / "session.jsonl"
    path.write_text(path.read_text() + "\n" + broken)
    first, *rest = claude_code.read(path, "desk", NOW)
    assert first == alone
    assert [type(record) for record in rest] == ([Bad] if broken else [])


def test_a_real_session(home: Home, shared_data: Path) -> None:
    if not (shared_data / "claude-code").is_dir():
        pytest.skip("no real Claude Code session is beside this checkout (../shared/data/claude-code)")
    workspaces.create(home, "real")
    total = ingest(home, [shared_data / "claude-code"], "real").total
    assert (total.records, total.added, total.steps, total.tool_calls, total.outcomes) == (1, 1, 7, 2, 0)
    assert ingest(home, [shared_data / "claude-code"], "real").total.added == 0
