"""`flywheel export` as a person and as a script use it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel import settings
from flywheel.capture import access, workspaces
from flywheel.cli import app
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.preferences import storage
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, write
from flywheel_tests.corpus.conftest import week as week
from flywheel_tests.export.test_choose import HELD, KEPT, TRAIN
from flywheel_tests.preferences.test_pairs import boxes
from flywheel_tests.views.conftest import MARKED, byte_level

cli = CliRunner()


def run(*arguments: str) -> str:
    result = cli.invoke(app, ["export", *arguments])
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def said(*arguments: str):
    return json.loads(run(*arguments, "--json"))


@pytest.fixture(autouse=True)
def desk(week, monkeypatch, tmp_path):
    """Twelve episodes, a version of them, and pairs; commands run in the test's folder."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(week.root))
    monkeypatch.chdir(tmp_path)
    snapshot(week, "desk", SPEC, MONDAY)
    storage.save(week.pairs / "p", branches(boxes(), Gates(decision_share=1.0)), Gates())
    return week


def test_a_version(desk):
    told = said("trl-sft", "desk@v1", "--license", "mit")
    assert told["folder"] == "exports/trl-sft"
    card = told["card"]
    assert (card["written"], card["license"], card["made_of"]["version"]) == (len(KEPT), "mit", 1)
    assert card == json.loads(Path("exports/trl-sft/card.json").read_text())
    rows = Path("exports/trl-sft/train.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == KEPT
    shown = run("trl-sft", "desk@v1")
    assert f"trl-sft in exports/trl-sft: {len(KEPT)} of {manifest(desk, 'desk').rows} trajectories" in shown
    assert "held out" in shown and "train.jsonl" in shown
    assert said("trl-sft", "desk", "--where", "trajectory_id = 't000'")["card"]["written"] == 1


def test_a_workspace_and_a_statement(desk, tmp_path):
    assert said("openai", "--workspace", "support", "--to", "out")["card"]["written"] == len(TRAIN)
    sql = "SELECT trajectory_id FROM joined WHERE reward < 1"
    card = said("steps", "--workspace", "support", "--sql", sql, "--to", str(tmp_path / "s"), "--parquet")["card"]
    assert card["made_of"]["sql"] == sql and card["looked_at"] == 2
    assert (tmp_path / "s" / "steps.parquet").is_file()


def test_held_out_rows_are_asked_for_by_name_and_with_a_warning(desk):
    result = cli.invoke(app, ["export", "hermes", "desk@v1", "--split", "heldout", "--json"])
    assert "cannot be evaluated any more" in " ".join(result.stderr.split())
    assert json.loads(result.stdout)["card"]["written"] == len(HELD)


def test_a_budget_of_tokens(desk, tmp_path):
    byte_level(MARKED).save_pretrained(tmp_path / "tokenizer")
    card = said("sharegpt", "desk@v1", "--max-tokens", "40", "--tokenizer", str(tmp_path / "tokenizer"))["card"]
    assert card["budget"]["counted_by"] == str(tmp_path / "tokenizer")
    assert card["compressed"] == {"over the budget even so": len(KEPT)}
    with pytest.raises(FlywheelError, match="there is no tokenizer"):
        run("sharegpt", "desk@v1", "--max-tokens", "40", "--tokenizer", str(tmp_path / "none"))


def test_pairs(desk):
    assert said("trl-dpo", "--pairs", "p")["card"]["written"] == 3
    with pytest.raises(FlywheelError, match="there are no pairs"):
        run("trl-dpo", "--pairs", "q")


def test_what_is_missing_is_said(desk):
    workspaces.create(desk, "empty")
    assert "bring captures in" in _said("trl-sft", "-w", "empty")
    page = Path("exports/trl-sft/README.md").read_text()
    assert page.startswith("# trl-sft") and "None" not in page
    write(desk, [trajectory(20)])
    assert "the reward policy asks for" in _said("trl-kto", "--workspace", "support")


def _said(*arguments: str) -> str:
    return " ".join(cli.invoke(app, ["export", *arguments]).stderr.split())


def test_the_tries_of_each_task(desk):
    card = said("trl-dpo", "desk@v1")["card"]
    assert card["left_out"]["no other try of the task began alike"] == len(KEPT)
    assert card["looked_at"] == manifest(desk, "desk").rows
    card = said("step-records", "--workspace", "support", "--to", "records", "--parquet")["card"]
    assert (card["written"], card["files"][0]["name"]) == (len(TRAIN), "train.parquet")
    card = said("trl-dpo", "--workspace", "support", "--margin", "0.5", "--to", "dpo")["card"]
    assert card["made_of"]["gates"]["margin"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense", "desk@v1"], "there is no format 'nonsense'"),
        (["openai"], "name a corpus version"),
        (["openai", "desk", "--workspace", "support"], "or --workspace NAME"),
        (["openai", "desk", "--sql", "SELECT 1"], "alone or with --sql"),
        (["openai", "desk", "--tokenizer", "x"], "are for --max-tokens"),
        (["openai", "desk", "--split", "all"], "there is no split 'all'"),
        (["openai", "desk", "--parquet"], "openai is JSON Lines"),
        (["trl-dpo"], "name a corpus version .*, or --pairs KEY"),
        (["trl-dpo", "desk", "--pairs", "p"], "name a corpus version"),
        (["trl-dpo", "--pairs", "p", "--max-tokens", "9"], "leave out --max-tokens"),
        (["trl-dpo", "desk", "--max-tokens", "9"], "trl-dpo compares whole ones"),
        (["step-records", "--trees", "t", "--split", "heldout"], "leave out --split"),
        (["step-records", "desk", "--margin", "0.5"], "are for trl-dpo"),
        (["step-records", "--pairs", "p"], "--pairs is for trl-dpo, not for step-records"),
        (["openai", "--trees", "t"], "--trees is for step-records, not for openai"),
        (["trl-dpo", "--pairs", "p", "--parquet"], "trl-dpo is JSON Lines"),
    ],
)
def test_what_cannot_be_says_why(arguments, told):
    with pytest.raises(FlywheelError, match=told):
        run(*arguments)


def test_a_guarded_workspace_asks_for_the_role(desk, monkeypatch):
    access.issue(settings.home(), "support", ["admin"], name="admin")
    reader, _ = access.issue(settings.home(), "support", ["read"], name="reader")
    exporter, _ = access.issue(settings.home(), "support", ["export"], name="exporter")
    for arguments in (["openai", "desk@v1"], ["openai", "--workspace", "support"]):
        monkeypatch.delenv("FLYWHEEL_TOKEN", raising=False)
        with pytest.raises(FlywheelError):
            run(*arguments)
        monkeypatch.setenv("FLYWHEEL_TOKEN", reader)
        with pytest.raises(FlywheelError):
            run(*arguments)
        monkeypatch.setenv("FLYWHEEL_TOKEN", exporter)
        assert run(*arguments)
