"""Ingesting: each record once, malformed ones to quarantine, and every record accounted for."""

import gzip
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.capture import ingest as ingesting
from flywheel.capture import workspaces
from flywheel.capture.ingest import FileReport, ingest
from flywheel.capture.settling.arrivals import Arrivals
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, FlywheelError, Trajectory, trajectory_of
from flywheel.settings import Home

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHAT = {
    "messages": [{"role": "user", "content": "Hi, I am ann@x.org"}, {"role": "assistant", "content": "Hello"}],
    "reward": 1,
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, Iterable[Any]], Path]:
    """Writes records as JSON Lines; text goes in as it is."""

    def write(name: str, lines: Iterable[Any]) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        return path

    return write


def only(home: Home, path: Path, format: str = "auto") -> FileReport:
    [report] = ingest(home, [path], "desk", format, now=NOW).files
    assert report.records == report.added + report.already_there + report.duplicates + report.quarantined
    return report


def stored(home: Home) -> list[Trajectory]:
    rows = warehouse.read(home.captures, TRAJECTORIES, "desk").to_pylist()
    return sorted((trajectory_of(row) for row in rows), key=lambda t: t.source_line or 0)


def test_a_line_becomes_a_trajectory_and_its_reward_an_outcome(desk: Home, file: Callable[..., Path]) -> None:
    path = file("chats.jsonl", [CHAT])
    assert only(desk, path) == FileReport(
        path=str(path),
        format="openai-chat",
        records=1,
        added=1,
        outcomes=1,
        steps=2,
        redactions={"EMAIL": 1},
    )
    [trajectory] = stored(desk)
    assert [step.content for step in trajectory.steps] == ["Hi, I am <EMAIL>", "Hello"]
    assert (trajectory.source, trajectory.source_line, trajectory.arrived_at) == ("in/chats.jsonl", 1, NOW)
    [outcome] = warehouse.read(desk.outcomes, OUTCOMES, "desk").to_pylist()
    assert (outcome["trajectory_id"], outcome["signal"], outcome["value"]) == (trajectory.id, "reward", 1.0)


def test_a_reward_that_an_observation_prints_is_masked(desk: Home, file: Callable[..., Path]) -> None:
    chat = {"messages": [{"role": "assistant", "content": "Done."}, {"role": "user", "content": "reward = True"}]}
    assert only(desk, file("chats.jsonl", [chat])).redactions == {"LABEL": 1}
    [trajectory] = stored(desk)
    assert trajectory.steps[1].content == "reward = <LABEL>"
    assert json.loads(trajectory.metadata)["labels_masked"] == 1


def test_the_same_record_adds_nothing_wherever_it_stands(desk: Home, file: Callable[..., Path]) -> None:
    other = CHAT | {"reward": 0}
    first, second = file("a.jsonl", [CHAT, other, CHAT]), file("b.jsonl", ["", dict(reversed(CHAT.items())), "{}"])
    counts = [(r.added, r.already_there, r.duplicates, r.quarantined) for r in (only(desk, first), only(desk, second))]
    assert counts == [(2, 0, 1, 0), (0, 1, 0, 1)]
    again = ingest(desk, [first.parent], "desk").total
    assert (again.records, again.added, again.outcomes, again.quarantined) == (5, 0, 0, 1)
    assert len(stored(desk)) == 2
    assert warehouse.read(desk.quarantine, QUARANTINE, "desk").num_rows == 1  # told once


def test_malformed_records_are_quarantined_and_the_rest_goes_on(desk: Home, file: Callable[..., Path]) -> None:
    path = file(
        "chats.jsonl",
        [
            '{"messages": [{"role": "user", "content": "ann@x.org"',
            CHAT,
            '{"messages": [{"role": "user", "content": NaN}]}',
            {"messages": [{"role": "robot", "content": "x"}]},
            {"messages": []},
            "[]",
            '{"messages": "\\ud800"}',
            "\x00",
            CHAT | {"reward": 0.5},
            '{"messages": [{"role": "user", "content": "x"}], "reward": 1' + "0" * 400 + "}",
            "[" * 5000,
        ],
    )
    report = only(desk, path)
    assert (report.added, report.quarantined) == (2, 9)
    bad = warehouse.read(desk.quarantine, QUARANTINE, "desk").sort_by("line").to_pylist()
    assert [r["line"] for r in bad] == [1, 3, 4, 5, 6, 7, 8, 10, 11]
    assert bad[0]["excerpt"] == '{"messages": [{"role": "user", "content": "<EMAIL>"'
    assert "Invalid enum value 'robot' - at `$.role`" in bad[2]["error"]
    assert "no messages" in bad[3]["error"]


def test_a_file_of_no_known_format_stops_before_anything_is_stored(desk: Home, file: Callable[..., Path]) -> None:
    good, bad = file("a.jsonl", [CHAT]), file("b.jsonl", [{"text": "prose"}])
    with pytest.raises(FlywheelError, match="tau2, tau-bench, intercode"):
        ingest(desk, [good, bad], "desk")
    assert stored(desk) == []
    assert only(desk, bad, "openai-chat").quarantined == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("empty.json", "is empty"), ("absent.json", "does not exist"), ("folder", "holds no file that ends in .json")],
)
def test_what_is_not_there_is_an_error(desk: Home, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty.json").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(FlywheelError, match=message):
        ingest(desk, [tmp_path / name], "desk")


def test_an_unknown_format_and_an_unknown_workspace_are_errors(desk: Home, file: Callable[..., Path]) -> None:
    path = file("a.jsonl", [CHAT])
    with pytest.raises(FlywheelError, match="no format 'csv'"):
        ingest(desk, [path], "desk", "csv")
    with pytest.raises(FlywheelError, match="workspace create sales"):
        ingest(desk, [path], "sales")


def test_records_arrive_after_what_is_closed(desk: Home, file: Callable[..., Path]) -> None:
    arrivals = Arrivals(desk, "desk")
    with arrivals.locked():
        arrivals.close(NOW)
    only(desk, file("a.jsonl", [CHAT]))
    assert [t.arrived_at > NOW for t in stored(desk)] == [True]


class Killed(BaseException):
    pass


def test_an_ingest_killed_between_its_writes_is_finished_by_the_next(
    desk: Home, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file("a.jsonl", [CHAT | {"id": n} for n in range(5)])
    monkeypatch.setattr(ingesting, "BATCH", 2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        rename, left = os.replace, iter([True, True, True])

        def replace(*names: Any) -> None:
            if next(left, None) is None:
                raise Killed
            rename(*names)

        patch.setattr(Path, "replace", replace)  # the fourth write: outcomes are stored, their trajectories are not
        ingest(desk, [path], "desk", now=NOW)
    assert warehouse.read(desk.outcomes, OUTCOMES).num_rows == 4
    assert len(stored(desk)) == 2
    report = ingest(desk, [path], "desk").total  # at another time: the outcomes already told are not told again
    assert (report.added, report.already_there, report.outcomes) == (3, 2, 1)
    assert warehouse.read(desk.outcomes, OUTCOMES).num_rows == 5


def test_a_folder_is_taken_with_its_gzip(desk: Home, file: Callable[..., Path]) -> None:
    plain = file("a.jsonl", [CHAT])
    packed = plain.with_name("b.jsonl.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes() * 2 + json.dumps({**CHAT, "id": 2}).encode()))
    told: list[int] = []
    first, second = ingest(desk, [plain.parent], "desk", progress=told.append).files
    assert (first.added, second.added, second.already_there, second.duplicates) == (1, 1, 1, 1)
    assert told[-1] == plain.stat().st_size + packed.stat().st_size


def test_of_a_folder_files_alone_are_read_and_a_pipe_is_refused(desk: Home, file: Callable[..., Path]) -> None:
    good = file("a.jsonl", [CHAT])
    good.with_name("folder.json").mkdir()
    os.mkfifo(good.with_name("pipe.json"))
    for name in ("b.ndjson", "c.ndjson.gz", "notes.csv"):
        text = good.read_bytes()
        good.with_name(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)

    read = [Path(f.path).name for f in ingest(desk, [good.parent], "desk").files]
    assert read == ["a.jsonl", "b.ndjson", "c.ndjson.gz"]
    with pytest.raises(FlywheelError, match="only once"):
        ingest(desk, [good.with_name("pipe.json")], "desk")


def test_a_file_of_a_folder_that_is_of_no_format_is_set_aside(desk: Home, file: Callable[..., Path]) -> None:
    good, _ = file("a.jsonl", [CHAT]), file("b.jsonl", [{"text": "of ann@x.org"}])
    file("c.json", [])
    torn = good.with_name("d.jsonl.gz")
    torn.write_bytes(gzip.compress(b"".join(json.dumps(CHAT | {"id": n}).encode() + b"\n" for n in range(9)))[:-4])
    reports = {Path(f.path).name: f for f in ingest(desk, [good.parent], "desk").files}
    kept = {name: (r.format, r.records, r.added, r.quarantined) for name, r in reports.items()}
    assert kept == {
        "a.jsonl": ("openai-chat", 1, 1, 0),
        "b.jsonl": ("", 1, 0, 1),
        "c.json": ("", 1, 0, 1),
        "d.jsonl.gz": ("openai-chat", 10, 9, 1),
    }
    assert "of no known format" in reports["b.jsonl"].error and "is empty" in reports["c.json"].error
    bad = warehouse.read(desk.quarantine, QUARANTINE, "desk").sort_by("source").to_pylist()
    assert [(b["source"], b["line"]) for b in bad] == [
        ("in/b.jsonl", None),
        ("in/c.json", None),
        ("in/d.jsonl.gz", None),
    ]
    assert bad[0]["excerpt"].startswith('{"text": "of <EMAIL>"}')
    assert "breaks off" in bad[2]["error"]
    again = ingest(desk, [good.parent], "desk").total
    assert (again.records, again.added, again.quarantined) == (13, 0, 3)


def test_progress_ends_at_the_size_of_the_files(desk: Home, file: Callable[..., Path]) -> None:
    paths = [file(f"{n}.jsonl", [CHAT | {"id": n}]) for n in "ab"]
    told: list[int] = []
    ingest(desk, paths, "desk", progress=told.append)
    assert told[-1] >= sum(path.stat().st_size for path in paths) - 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.sampled_from(["good", "bad", "same"]) | st.binary(min_size=1, max_size=12), max_size=8))
def test_in_is_always_kept_and_already_there_and_quarantined(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[str | bytes]
) -> None:
    home = Home(tmp_path_factory.mktemp("data"))
    workspaces.create(home, "desk")
    lines = [
        json.dumps(CHAT | {"id": n}).encode()
        if chunk == "good"
        else json.dumps(CHAT).encode()
        if chunk == "same"
        else b'{"messages"'
        if chunk == "bad"
        else chunk
        for n, chunk in enumerate(chunks)
        if isinstance(chunk, bytes | str)
    ]
    path = home.root / "chats.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    report = ingest(home, [path], "desk", "openai-chat", now=NOW).total
    assert report.records == report.added + report.already_there + report.duplicates + report.quarantined
    assert warehouse.read(home.captures, TRAJECTORIES).num_rows == report.added
    assert report.added == chunks.count("good") + min(1, chunks.count("same"))
    again = ingest(home, [path], "desk", "openai-chat").total
    assert (again.added, again.already_there, again.records) == (0, report.added, report.records)
