"""`flywheel evaluate`, `report`, `gate`, `champion`, `rollback` and `history` as people and scripts use them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel import artifacts
from flywheel.cli import app
from flywheel.environments import desk
from flywheel.schema import FlywheelError

cli = CliRunner()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    return tmp_path


def said(*arguments: str, code: int = 0):
    result = cli.invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refused(*arguments: str) -> str:
    result = cli.invoke(app, list(arguments))
    assert isinstance(result.exception, FlywheelError), result.output
    return str(result.exception)


def untrained(place: Path, name: str, seed: int) -> None:
    """A policy from scratch with random weights, as training would leave it."""
    from flywheel.train import policy
    from flywheel.train.config import Size
    from flywheel.train.tokenizer import build

    tokenizer = build(desk.TOOLS, ["the order"] * 2)
    model = policy.scratch(tokenizer, Size(width=16, layers=1, heads=1, feed_forward=16), 256, seed)
    with artifacts.folder(place / "policies" / name) as folder:
        policy.save(model, tokenizer, folder / "model")
        (folder / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report"], "no report yet: run `flywheel demo`"),
        (["report", "v9"], "there is no report 'v9'"),
        (["gate"], "no report yet"),
        (["champion"], "no champion yet: run `flywheel demo`"),
        (["rollback"], "nothing to roll back to: there is no champion"),
        (["evaluate", "nobody"], "there is no policy 'nobody'; there are: none yet"),
        (["evaluate", "nobody", "--suite", "moon"], "there is no suite 'moon'"),
    ],
)
def test_empty_places_say_what_to_do(arguments: list[str], message: str):
    assert message in refused(*arguments)


def test_an_error_ends_with_one_and_a_message_on_standard_error(place: Path):
    command = [sys.executable, "-c", "from flywheel.cli import main; main()", "champion", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no champion yet" in done.stderr


def test_no_history_is_an_empty_list():
    assert said("history") == []


@pytest.mark.parametrize("wrong", [["--n", "0"], ["--temperature", "-1"], ["--temperature", "1"], ["--suite", "none"]])
def test_wrong_usage_is_two(wrong: list[str]):
    assert cli.invoke(app, ["evaluate", "nobody", *wrong]).exit_code == 2


@pytest.mark.slow
def test_from_evaluation_to_rollback(place: Path):
    for seed, name in enumerate(("one", "two")):
        untrained(place, name, seed)
    report = said("evaluate", "one", "two", "--suite", "desk", "--n", "4")
    assert (report["candidate"], report["champion"], report["suite"]["environments"]) == ("one", None, {"desk": 4})
    assert {
        (r["policy"], r["temperature"]) for r in report["success"] if r["policy"] in {"one", "captured agents"}
    } == {
        ("one", 0.0),
        ("one", 1.0),
        ("captured agents", 0.0),
        ("captured agents", 1.0),
    }
    assert said("report", "latest") == report
    assert said("evaluate", "one", "two", "--suite", "desk", "--n", "4")["id"] == report["id"]
    assert cli.invoke(app, ["report"]).exit_code == 0

    verdict = said("gate", "--release", code=1)
    assert (verdict["blocked"], verdict["verdict"]["promote"]) == (True, False)
    assert [e["kind"] for e in said("history")] == ["keep"]
    assert "no champion yet" in refused("champion")
    assert "only a trained policy can serve" in refused("gate", "--candidate", "empty", "--release")

    # An audit that found nothing, and permission to be the first.
    path = place / "reports" / report["id"] / "report.json"
    artifacts.write_json(path, {**artifacts.read_json(path), "leaks": []})
    assert said("gate", "--release", "--allow-first", "--minimum-tasks", "4")["verdict"]["promote"]
    shown = said("champion")
    assert (shown["policy_id"], shown["promotion"]["report"]) == ("one", report["id"])
    assert Path(shown["model"]).is_dir()
    assert "one is the first champion" in refused("rollback")
    assert [e["kind"] for e in said("history")] == ["keep", "promote"]

    # The champion is judged beside a new candidate without being named.
    again = said("evaluate", "two", "--suite", "desk", "--n", "4", "--temperature", "0")
    assert (again["candidate"], again["champion"]) == ("two", "one")
    for command in (["champion"], ["history"], ["report"]):
        assert cli.invoke(app, command).exit_code == 0
