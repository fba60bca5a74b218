"""`flywheel ship` as a person uses it after an agent's machine came back."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel.capture import Recorder, workspaces
from flywheel.cli import app
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.cli.test_capture import here as here
from flywheel_tests.cli.test_capture import run
from flywheel_tests.server.conftest import serving


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """What a recorder that is no more left behind."""
    left = Home(tmp_path / "spool")
    workspaces.create(left, "desk")
    recorder = Recorder(left, "desk", agent="bot")
    with recorder.trajectory(task_id="1") as t:
        t.step(role="user", content="Hello")
        t.outcome("fine", 1.0)
    recorder.close()
    return left.root


def test_what_is_left_in_a_spool_is_sent_once(home: Home, spool: Path) -> None:
    run("workspace", "create", "desk")
    with serving(home) as url:
        sent = run("ship", "--spool", str(spool), "--to", url)
        assert sent == {"desk": {"trajectories": 1, "outcomes": 1, "quarantined": 0, "journals_removed": 1}}
        again = CliRunner().invoke(app, ["ship", "--spool", str(spool), "--to", url], catch_exceptions=False)
        assert "trajectories" in again.stdout


def test_a_server_that_is_away_or_says_no_leaves_the_spool_as_it_is(home: Home, spool: Path) -> None:
    for words, message in (
        (["--to", "http://127.0.0.1:9", "--for", "0"], r"cannot be reached.*; all is kept in .*: run this again"),
        (["--to", "x"], "address"),
    ):
        with pytest.raises(FlywheelError, match=message):
            CliRunner().invoke(app, ["ship", "--spool", str(spool), *words], catch_exceptions=False)
    with serving(home) as url, pytest.raises(FlywheelError, match=r"answered 40\d"):
        CliRunner().invoke(app, ["ship", "--spool", str(spool), "--to", url], catch_exceptions=False)
    assert len(list(spool.rglob("*.jsonl"))) == 1
