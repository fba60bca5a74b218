"""`flywheel run` as a person and as a script use it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.cli.test_capture import here as here
from flywheel_tests.cli.test_capture import run

ASKED = ["run", "-w", "trials", "--policy", "reference", "--policy", "desk-bot@2.0", "--env", "desk", "--tasks", "4"]


def test_tasks_are_played_recorded_and_not_played_again(home: Home) -> None:
    run("workspace", "create", "trials")
    report = run(*ASKED, "--n", "2")
    assert (report["cells"], report["played"]) == (16, 16)
    assert report["policies"][0] == {
        "policy": "reference", "version": "1.0", "cells": 8, "completed": 8, "partial": 0, "failed": 0,
        "success": 1.0, "credit": 1.0,
    }  # fmt: skip
    assert all(tool["count"] == tool["success"] + tool["failure"] for tool in report["tools"].values())
    assert run(*ASKED, "--n", "2")["played"] == 0
    assert run("settle", "-w", "trials")["trajectories"] == 16
    assert run(*ASKED, "--n", "2")["played"] == 0
    shown = CliRunner().invoke(app, ASKED)
    assert "error rate" in shown.stdout
    assert "flywheel settle -w trials" in shown.stderr


def test_a_run_in_which_all_fails_ends_with_one(home: Home, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("flywheel.rollout.endpoint_actor.TRIES", 1)
    run("workspace", "create", "trials")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who are you?"}\n')
    words = ["run", "-w", "trials", "--policy", "openai:m@http://127.0.0.1:9/v1"]
    ran = CliRunner().invoke(app, [*words, "--prompts", str(tmp_path / "prompts.jsonl")])
    assert ran.exit_code == 1
    assert "cannot be reached" in ran.stderr


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("openai:m", "names no model"),
        ("desk-bot@9", "no captured agent"),
        ("desk-bot", "there are: desk-bot@1.0"),
        ("nobody", "no policy 'nobody'"),
    ],
)
def test_policies_that_are_none_are_refused(home: Home, policy: str, message: str) -> None:
    run("workspace", "create", "trials")
    with pytest.raises(FlywheelError, match=message):
        CliRunner().invoke(app, ["run", "-w", "trials", "--policy", policy], catch_exceptions=False)


def test_prompts_are_not_for_scripted_agents(home: Home, tmp_path) -> None:
    run("workspace", "create", "trials")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Who are you?"}\n')
    words = ["run", "-w", "trials", "--policy", "reference", "--prompts", str(tmp_path / "prompts.jsonl")]
    with pytest.raises(FlywheelError, match="reference: a scripted agent plays tasks alone"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert run("settle", "-w", "trials")["trajectories"] == 0


def test_who_stops_a_run_is_told_how_to_go_on(home: Home, monkeypatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run("workspace", "create", "trials")
    monkeypatch.setattr("flywheel.rollout.batch.run", stopped)
    ran = CliRunner().invoke(app, ASKED)
    assert ran.exit_code == 130
    assert "the same command again plays the rest" in " ".join(ran.stderr.split())
