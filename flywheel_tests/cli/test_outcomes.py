"""`flywheel outcomes` as a person and as a script use it."""

import json

import pytest
from typer.testing import CliRunner

from flywheel.capture import workspaces
from flywheel.cli import app
from flywheel_tests.outcomes.stored import outcome, store, trajectory

cli = CliRunner()


@pytest.fixture
def stored(home, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    workspaces.create(home, "w")
    store(home, trajectory("a"), trajectory("b"), outcome("a", "reward", 1.0), outcome("a", "reward", 0.0, hours=30))
    return home


def said(*arguments: str):
    result = cli.invoke(app, ["outcomes", "show", "w", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_verdicts_as_of_a_moment(stored):
    then = said("--as-of", "2026-03-01T12:00:00Z")
    assert (then["states"], then["successes"]) == ({"expired": 1, "resolved": 1}, 1)
    assert said("--as-of", "2026-03-03")["successes"] == 0
    assert said("--as-of", "2026-02-28")["trajectories"] == 0


def test_one_trajectory_with_its_facts(stored):
    shown = said("--trajectory", "a")
    assert [fact["value"] for fact in shown["facts"]] == [1.0, 0.0]
    assert shown["verdicts"][0]["reward"] == 0.0


def test_another_policy(stored, tmp_path):
    (tmp_path / "p.toml").write_text('[[signals]]\nname = "checker"\nsilence = 1.0\n')
    assert said("--policy", str(tmp_path / "p.toml"))["successes"] == 2


def test_tables_for_people(stored):
    result = cli.invoke(app, ["outcomes", "show", "w", "--trajectory", "a"])
    assert result.exit_code == 0
    assert "resolved" in result.stdout


def test_wrong_usage_is_two(stored):
    assert cli.invoke(app, ["outcomes", "show", "w", "--as-of", "yesterday"]).exit_code == 2


def test_an_explanation(stored):
    result = cli.invoke(app, ["outcomes", "explain", "a", "--as-of", "2026-03-01T13:00:00Z", "--json"])
    assert result.exit_code == 0, result.output
    explained = json.loads(result.stdout)
    assert explained["arithmetic"] == "min(reward 1) = 1: success, at 1"
    assert [row["counted"] for row in explained["ledger"]] == ["counted", "arrived later"]


def test_an_explanation_for_people(stored):
    result = cli.invoke(app, ["outcomes", "explain", "b", "--workspace", "w"])
    assert result.exit_code == 0, result.output
    assert "no verdict: reward stayed silent" in result.stdout
    assert "nothing is assumed" in result.stdout


def test_lag_with_a_picture(stored, tmp_path):
    plot = tmp_path / "lag.png"
    result = cli.invoke(app, ["outcomes", "lag", "--workspace", "w", "--plot", str(plot), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["lags"][0]["heard"] == 1
    assert document["revisions"][0]["changed"] == 1
    assert plot.exists()


def test_lag_for_people(stored):
    result = cli.invoke(app, ["outcomes", "lag", "--workspace", "w"])
    assert result.exit_code == 0, result.output
    assert "what revisions changed" in result.stdout


def test_a_file_of_outcomes_is_imported(stored, tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text("id,stars\na,5\nb,none\nz,4\n")
    asked = ["outcomes", "import", str(path), "-w", "w", "--map", "id=trajectory_id", "--map", "stars=value"]
    tried = cli.invoke(app, [*asked, "--signal", "stars", "--dry-run"])
    assert "line 3" in tried.stderr
    result = cli.invoke(app, [*asked, "--signal", "stars", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [report[n] for n in ("rows", "added", "quarantined", "unknown_trajectories")] == [3, 2, 1, 1]
    shown = cli.invoke(app, ["outcomes", "show", "w", "--trajectory", "a", "--json"])
    assert ["stars", 5.0] in [[fact["signal"], fact["value"]] for fact in json.loads(shown.stdout)["facts"]]


def test_times_without_a_zone_are_told_how_to_get_one(stored, tmp_path):
    path = tmp_path / "verdicts.csv"
    path.write_text(
        "trajectory_id,signal,value,observed_at\na,fine,1,2026-01-02 10:00\nb,fine,1,2026-01-02T10:00:00Z\n"
    )
    asked = ["outcomes", "import", str(path), "-w", "w"]
    assert "--timezone UTC" in cli.invoke(app, asked).stderr
    again = cli.invoke(app, [*asked, "--timezone", "UTC"])
    assert again.exit_code == 0
    assert "--timezone" not in again.stderr


def test_a_file_that_holds_no_outcome_ends_with_one(stored, tmp_path):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("{}\n")
    assert cli.invoke(app, ["outcomes", "import", str(path), "-w", "w"]).exit_code == 1
    assert cli.invoke(app, ["outcomes", "import", str(path), "-w", "w", "--map", "x"]).exit_code == 2
