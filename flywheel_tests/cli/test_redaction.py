"""`flywheel redaction`: a policy is shown, set and tried."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flywheel.capture import workspaces
from flywheel.cli import app
from flywheel.schema import FlywheelError
from flywheel.settings import Home

POLICY = """
kinds = { EMAIL = "hash", PHONE = "off" }

[custom.EMPLOYEE]
pattern = 'EMP-[0-9]{6}'
action = "drop"
"""


@pytest.fixture(autouse=True)
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    workspaces.create(home, "desk")
    return home


def run(*arguments: str, input: str | None = None) -> Result:
    ran = CliRunner().invoke(app, ["redaction", *arguments], catch_exceptions=False, input=input)
    assert ran.exit_code == 0, ran.stderr
    return ran


def test_without_a_policy_everything_is_masked() -> None:
    shown = json.loads(run("show", "desk", "--json").stdout)
    assert set(shown["kinds"].values()) == {"mask"}
    assert len(shown["kinds"]) > 60
    assert "all kinds are masked" in run("show", "desk").stderr
    tried = run("test", "desk", "write to ann@x.org")
    assert tried.stdout == "write to <EMAIL>\n"
    assert "replaced: 1 EMAIL" in tried.stderr


def test_a_boundary_of_a_source_that_there_may_not_be_is_told() -> None:
    told = " ".join(run("set", "desk", "-", input='[boundary.gatway]\nsystem_prompt = "drop"').stderr.split())
    assert "boundary.gatway holds for recorders that were given the name 'gatway' alone" in told
    for source in ("gateway", '"*"', "otlp", "claude-code"):
        told = run("set", "desk", "-", input=f'[boundary.{source}]\nsystem_prompt = "drop"').stderr
        assert "alone" not in told


def test_a_policy_is_tried_and_set(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    text = "ann@x.org called 212-555-0123"
    tried = json.loads(run("test", "desk", "--policy", str(file), "--json", input=text).stdout)
    assert tried["text"].startswith("<EMAIL:")
    assert tried["text"].endswith("> called 212-555-0123")
    assert tried["redactions"] == {"EMAIL": 1}
    assert json.loads(run("test", "desk", text, "--json").stdout)["text"] == "<EMAIL> called <PHONE>"

    run("set", "desk", "-", "--json", input=POLICY)
    assert json.loads(run("test", "desk", text, "--json").stdout) == tried
    assert json.loads(run("test", "desk", "I am EMP-123456", "--json").stdout)["text"] == "<DROPPED:EMPLOYEE>"
    assert json.loads(run("show", "desk", "--json").stdout)["kinds"]["PHONE"] == "off"
    assert "EMP-" in run("show", "desk").stderr
    assert [workspace.name for workspace in workspaces.all_workspaces(Home(tmp_path / "data"))] == ["desk"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("default = 'blur'", "no redaction policy"),
        ("kinds = { EMIAL = 'off' }", "there is no kind EMIAL"),
        ("[custom.EMAIL]\npattern = 'x'", "not built in"),
        ("[custom.NUMBER]\npattern = '(?<=a)b'", "no look-around"),
        ("[custom.NUMBER]\npattern = 'a*'", "matches the empty text"),
        ("[boundary.gateway]\ninjected_memory = { how = 'drop' }", "needs between"),
        ("= 3", "no redaction policy"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_and_changes_nothing(policy: str, said: str) -> None:
    with pytest.raises(FlywheelError, match=said):
        CliRunner().invoke(app, ["redaction", "set", "desk", "-"], catch_exceptions=False, input=policy)
    assert set(json.loads(run("show", "desk", "--json").stdout)["kinds"].values()) == {"mask"}
