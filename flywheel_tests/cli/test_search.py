"""`flywheel search` as a person and as a script use it."""

import json

import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, trajectory, verdict, write

cli = CliRunner()


def run(*arguments: str, code: int = 0) -> str:
    result = cli.invoke(app, ["search", *arguments])
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def support(home, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n != 3), "reward") for n in range(12)])


def test_json_is_a_list_of_what_was_found():
    found = json.loads(run("my invoice 2", "--limit", "3", "--json"))
    assert [one["rank"] for one in found] == [1, 2, 3]
    assert found[0]["trajectory_id"] == "t002"
    assert (found[0]["reward"], found[0]["n_steps"], found[0]["steps"]) == (1.0, 5, None)
    assert "**invoice**" in found[0]["excerpt"]
    found = json.loads(run("my invoice 2", "-w", "support", "--where", "NOT success", "--steps", "--json"))
    assert [one["trajectory_id"] for one in found] == ["t003"]
    assert found[0]["steps"][2]["tool_calls"][0]["name"] == "look_up"


def test_people_get_a_table_and_the_steps_they_ask_for():
    shown = run("warranty", "--mode", "text", "--steps")
    assert "My **warranty** 5 please." in shown
    assert "2 of 12" not in shown and "1 of 12 trajectories" in shown
    assert 'look_up {"order": 5}' in shown
    assert run("nowhere", "--mode", "text") == ""


def test_a_version_is_searched_by_its_name():
    assert cli.invoke(app, ["snapshot", "support", "--to", "desk", "--as-of", MONDAY.isoformat()]).exit_code == 0
    assert json.loads(run("invoice", "--in", "desk@v1", "--mode", "vector", "--limit", "1", "--json"))
    with pytest.raises(FlywheelError, match="has no v7"):
        run("invoice", "--in", "desk@v7")
    with pytest.raises(FlywheelError, match="one workspace already"):
        run("invoice", "--in", "desk", "-w", "support")


def test_wrong_usage_is_said():
    run(code=2)
    run("invoice", "--mode", "sounds", code=2)
    with pytest.raises(FlywheelError, match="write some words"):
        run("")
    with pytest.raises(FlywheelError, match="the embedder"):
        run("invoice", "--embedder", "./nowhere")
    assert json.loads(run("invoice", "--embedder", "./nowhere", "--mode", "text", "--json"))
