"""`flywheel rollout`, `flywheel pairs` and `flywheel train`: from a policy to pairs and on, by hand."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from flywheel.settings import Home
from flywheel_tests.train.test_run import corpus


def flywheel(home: Home, *words: str) -> tuple[int, Any, str]:
    """The exit code of a command, the JSON document it printed, and its remarks."""
    command = [sys.executable, "-c", "from flywheel.cli import main; main()", *words, "--json"]
    done = subprocess.run(
        command, env=os.environ | {"FLYWHEEL_HOME": str(home.root)}, capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.slow
def test_train_roll_out_pair(home: Home):
    code, policy, errors = flywheel(
        home, "train", "sft", corpus(home.root / "rows.parquet"), "--steps", "3", "--batch", "2"
    )
    assert (code, policy["kind"]) == (0, "sft"), errors

    request = ("rollout", policy["id"], "--env", "desk", "--tasks", "2", "--depth", "2")
    code, forest, errors = flywheel(home, *request)
    assert (code, forest["statistics"]["trees"]) == (0, 2), errors
    assert flywheel(home, *request)[1] == forest

    code, pairs, errors = flywheel(home, "pairs", forest["key"])
    assert code == 0, errors
    assert sum(pairs["reasons"].values()) == pairs["branch_points"]


def test_what_is_missing_is_told(home: Home):
    code, document, errors = flywheel(home, "pairs", "none")
    assert (code, document) == (1, None)
    assert "flywheel rollout" in errors
    code, document, errors = flywheel(home, "train", "sft", "none.parquet")
    assert (code, document) == (1, None)
    assert "no file of trajectories" in errors
