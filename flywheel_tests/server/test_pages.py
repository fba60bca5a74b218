"""The pages on the recorder, on outcomes and on runs are tried as they stand, copied and pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel import warehouse
from flywheel.capture import workspaces
from flywheel.capture.recorders import shipping_thread
from flywheel.capture.recorders.remote import RemoteRecorder
from flywheel.capture.settling.settle import settle
from flywheel.outcomes import policy
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home
from flywheel_tests.conftest import ROOT
from flywheel_tests.server.conftest import Live
from flywheel_tests.server.test_outcomes import LATER

SERVER = "http://127.0.0.1:8787"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.S | re.M)


@pytest.fixture
def support(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    workspaces.create(home, "support")
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    return home


def stored(home: Home, workspace: str = "support") -> int:
    settle(home, workspace, LATER)
    return warehouse.read(home.captures, TRAJECTORIES, workspace).num_rows


def test_the_recorder(support: Home) -> None:
    *here, _elsewhere = blocks("recorder.md", "python")
    names: dict[str, object] = {}
    for block in here:
        exec(block, names)
    assert stored(support) == 2 + 100 + 1 + 10
    assert warehouse.read(support.outcomes, OUTCOMES, "support").num_rows == 2 + 100


def test_the_recorder_elsewhere(support: Home, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping_thread, "EVERY", 0.05)
    names: dict[str, object] = {}
    exec(blocks("recorder.md", "python")[-1].replace(SERVER, live(support)), names)
    recorder = names["recorder"]
    assert isinstance(recorder, RemoteRecorder)
    recorder.shipping.stop()
    assert stored(support) == 1


def test_an_outcome_is_posted_with_curl(support: Home, live: Live) -> None:
    [command] = [block for block in blocks("outcomes-in.md", "bash") if block.startswith("curl")]
    words = shlex.split(command.replace("localhost:8787", live(support)).replace("\\\n", " "))
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == json.loads(blocks("outcomes-in.md", "json")[0])


def test_the_policy_is_one(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(blocks("outcomes-in.md", "toml")[0])
    assert [signal.name for signal in policy.load(tmp_path / "policy.toml").signals] == ["merged", "stood"]


def _commands(page: str) -> list[str]:
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("flywheel ") and "127.0.0.1" not in line]


@pytest.mark.slow  # a process for each command
def test_the_commands_run_in_the_order_in_which_they_stand(support: Home, tmp_path: Path) -> None:
    (tmp_path / "verdicts.csv").write_text("trajectory_id,signal,value\na,resolved,1\n")
    (tmp_path / "verdicts.jsonl").write_text('{"trajectory_id": "a", "signal": "resolved", "value": 0.5}\n')
    (tmp_path / "nps.csv").write_text("ticket,score,observed_at\na,9,2026-01-05 12:00\n")
    for line in [*_commands("outcomes-in.md"), *_commands("run.md")]:
        words = [sys.executable, "-c", "from flywheel.cli import main; main()", *shlex.split(line)[1:]]
        ran = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"
    assert warehouse.read(support.outcomes, OUTCOMES, "support").num_rows == 2
    assert stored(support, "trials") == 200
