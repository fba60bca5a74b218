"""`flywheel workspace`, `ingest`, `outcome` and `settle`, as scripts call them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flywheel import warehouse
from flywheel.capture import Recorder
from flywheel.capture.importers import FORMATS
from flywheel.capture.journals.events import Exchanged
from flywheel.capture.journals.exchanges import Exchange
from flywheel.capture.journals.writer import Writer
from flywheel.cli import app, capture
from flywheel.schema import OUTCOMES, TRAJECTORIES, FlywheelError
from flywheel.settings import Home

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "reward": 1}


@pytest.fixture(autouse=True)
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    return home


def run(*arguments: str) -> Any:
    """What a command prints with `--json`; an error where it fails."""
    ran = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_workspace_is_created_listed_filled_and_labelled(home: Home, tmp_path: Path) -> None:
    assert run("workspace", "list") == []
    assert run("workspace", "create", "desk")["name"] == "desk"
    assert [w["name"] for w in run("workspace", "list")] == ["desk"]

    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps(CHAT) + "\nnonsense\n")
    report = run("ingest", str(chats), "--workspace", "desk", "--format", "openai-chat")
    assert (report["total"]["added"], report["total"]["quarantined"]) == (1, 1)

    [id] = warehouse.read(home.captures, TRAJECTORIES)["id"].to_pylist()
    told = run("outcome", id, "reopened", "1", "-w", "desk", "--observed-at", "2026-01-05", "--comment", "by ann@x.org")
    assert (told["value"], told["observed_at"], told["comment"]) == (1.0, "2026-01-05T00:00:00Z", "by <EMAIL>")
    told = run("outcome", id, "reopened", "1", "-w", "desk", "--observed-at", "2026-01-05T12:00:00+01:00")
    assert told["observed_at"] == "2026-01-05T12:00:00+01:00"
    assert sorted(warehouse.read(home.outcomes, OUTCOMES)["signal"].to_pylist()) == ["reopened", "reopened", "reward"]


def test_what_recorders_wrote_is_settled(home: Home) -> None:
    run("workspace", "create", "desk")
    recorder = Recorder(home, "desk", agent="bot")
    with recorder.trajectory(task_id="1"):
        pass
    recorder.close()
    settled = run("settle", "--workspace", "desk")
    assert (settled["trajectories"], settled["journals_removed"]) == (1, 1)


def test_who_does_not_want_to_wait_calls_quiet_conversations_over(home: Home) -> None:
    run("workspace", "create", "desk")
    now = datetime.now(UTC)
    said = {"messages": [{"role": "user", "content": "Hello"}], "answers": [[{"role": "assistant", "content": "Hi."}]]}
    writer = Writer(home, "desk")
    writer.put([Exchanged(Exchange(id="1", thread="1", started_at=now, ended_at=now, **said))]).result()
    writer.close()
    assert "--idle 0" in CliRunner().invoke(app, ["settle", "-w", "desk"]).stderr
    waiting, over = run("settle", "-w", "desk"), run("settle", "-w", "desk", "--idle", "0")
    assert [(s["trajectories"], s["waiting"]) for s in (waiting, over)] == [(0, 1), (1, 0)]


def test_what_settling_sets_aside_is_told(home: Home) -> None:
    run("workspace", "create", "desk")
    home.journals.joinpath("desk").mkdir(parents=True)
    (home.journals / "desk" / "1.jsonl").write_text("no event\n")
    told = CliRunner().invoke(app, ["settle", "-w", "desk"])
    assert "see what was quarantined with: flywheel query" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "pyproject.toml", "-w", "nowhere"], "flywheel workspace create nowhere"),
        (["outcome", "t", "s", "1", "-w", "desk"], "flywheel settle --workspace desk"),
        (["workspace", "create", "a/b"], "not usable"),
    ],
)
def test_what_cannot_be_done_says_why(arguments: list[str], message: str) -> None:
    run("workspace", "create", "desk")
    with pytest.raises(FlywheelError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["ingest"], ["ingest", "x.json"], ["outcome", "t", "s", "much", "-w", "d"]])
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_tables_for_people(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps(CHAT) + "\n")
    commands = [["workspace", "create", "desk"], ["ingest", str(chats), "-w", "desk"], ["settle", "-w", "desk"]]
    for command in [*commands, ["workspace", "list"]]:
        ran = CliRunner().invoke(app, command, catch_exceptions=False)
        assert ran.exit_code == 0
        assert (ran.stdout + ran.stderr).strip()


def test_help_names_every_format():
    assert sorted(capture.FORMATS) == sorted(FORMATS)


def test_formats_are_listed():
    listed = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert {"format": "otlp", "package": "flywheel"} in listed["formats"] and listed["broken"] == []
    assert "openai-responses" in CliRunner().invoke(app, ["formats"]).stdout


def test_a_file_of_no_format_in_a_folder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "chats.jsonl").write_text(json.dumps(CHAT) + "\n")
    (folder / "notes.json").write_text('{"text": "prose"}')
    CliRunner().invoke(app, ["workspace", "create", "desk"])
    ran = CliRunner().invoke(app, ["ingest", str(folder), "-w", "desk"], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "notes.json is of no known format" in ran.stderr.replace("\n", "")
