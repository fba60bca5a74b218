"""`flywheel corpus audit` and `graduate` as a person and as a script use them."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write

cli = CliRunner()


def run(*arguments: str, code: int = 0) -> str:
    result = cli.invoke(app, ["corpus", *arguments])
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture
def held(home, monkeypatch):
    """A version of forty rows, of which the tools of ten tell the reward."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    rows = [trajectory(n) for n in range(40)]
    for n in range(10):
        steps = [msgspec.structs.replace(s, content="reward = 1") if s.role == "tool" else s for s in rows[n].steps]
        rows[n] = msgspec.structs.replace(rows[n], steps=tuple(steps))
    write(home, rows, [verdict(n, 1.0) for n in range(40)])
    snapshot(home, "desk", SPEC, MONDAY)
    return home


def test_what_was_found_and_what_to_do_next(held):
    printed = run("audit", "desk@v1", "--rows", "2", code=1)
    assert "printed_verdict" in printed and "reward = 1" in printed and "hold" in printed


def test_a_script_reads_it_all(held):
    told = json.loads(run("audit", "desk@v1", "--json", code=1))
    assert (told["graduated"], told["graduations"], told["verdict"]["graduates"]) == (False, [], False)
    (finding,) = told["verdict"]["findings"]
    assert {"number", "kind", "level", "measure", "limit", "rows", "detail", "advice"} == set(finding)
    assert finding["rows"] == len(told["rows"]) and told["rows"][0]["trajectory_id"] == "t000"


def test_a_person_lets_it_graduate(held):
    run("audit", "desk@v1", code=1)
    said = json.loads(run("graduate", "desk@v1", "--by", "Ada", "--because", "It is a game.", "--json"))
    assert (said["by"], said["because"], said["version"]) == ("Ada", "It is a game.", 1)
    told = json.loads(run("audit", "desk@v1", "--json"))
    assert told["graduated"] and [word["by"] for word in told["graduations"]] == ["Ada"]


def test_nobody_lets_go_what_nobody_saw(held):
    with pytest.raises(FlywheelError, match="flywheel corpus audit desk@v1"):
        run("graduate", "desk@v1", "--by", "Ada", "--because", "It is a game.")
