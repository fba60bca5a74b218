"""`flywheel stream --where` and `flywheel tokenize` as a person and as a script use them."""

import json

import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write
from flywheel_tests.views.conftest import BARE, MARKED, byte_level

cli = CliRunner()


def run(*arguments: str) -> str:
    result = cli.invoke(app, list(arguments))
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def said(*arguments: str):
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def desk(home, monkeypatch, tmp_path):
    """Twelve episodes in a version, and a tokenizer."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    write(home, [trajectory(n) for n in range(12)], [verdict(n, 1.0) for n in range(12)])
    snapshot(home, "desk", SPEC, MONDAY)
    byte_level(MARKED).save_pretrained(tmp_path / "tokenizer")
    byte_level(BARE).save_pretrained(tmp_path / "bare")
    return tmp_path


def test_a_version_is_tokenized_once(desk):
    command = ["tokenize", "desk@v1", "--tokenizer", str(desk / "tokenizer")]
    first = said(*command)
    assert first["version"] == "desk@v1"
    assert first["rows"] == first["windows"] > 0
    assert 0 < first["trained_tokens"] < first["tokens"]
    assert (first["cached"], first["left_out"], first["dropped"]) == (0, 0, {})
    again = said(*command)
    assert again["cached"] == again["rows"]
    assert {name for name in first if first[name] != again[name]} <= {"cached", "seconds"}
    assert said(*command, "--max-tokens", "230")["windows"] > first["windows"]
    few = said(*command, "--where", "trajectory_id < 't004'")
    assert few["cached"] == few["rows"] < first["rows"]
    assert "trained_tokens" in run(*command)


def test_rows_that_the_template_refuses_are_counted_with_the_reason(desk):
    told = said("tokenize", "desk", "--tokenizer", str(desk / "bare"))
    [(reason, rows)] = told["dropped"].items()
    assert "leaves out the reasoning" in reason
    assert (rows, told["windows"]) == (told["rows"], 0)
    assert "leaves out the reasoning" in run("tokenize", "desk", "--tokenizer", str(desk / "bare"))


def test_stream_takes_a_condition(desk):
    rows = said("stream", "desk@main", "--limit", "20", "--where", "trajectory_id IN ('t001', 't002', 't003')")
    assert {row["trajectory_id"] for row in rows} <= {"t001", "t002", "t003"}
    with pytest.raises(FlywheelError, match="nonsense"):
        run("stream", "desk", "--where", "nonsense > 1")
