"""Runs: what a finished policy holds, that the same request finds it, that a killed run ends in the same weights."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from flywheel import artifacts
from flywheel.environments.protocol import Situation, opening
from flywheel.preferences import storage as pairs_storage
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.rollout.transformers_actor import TransformersActor
from flywheel.schema import FlywheelError, Step, Trajectory, trajectories_table
from flywheel.settings import Home
from flywheel.train.config import DPORun, Run, SFTRun, Size, load
from flywheel.train.run import plan, run
from flywheel_tests.preferences.test_pairs import boxes
from flywheel_tests.rollout.toy import Boxes, call, say

TINY = Size(width=32, layers=1, heads=2, feed_forward=64)


def corpus(path: Path) -> str:
    """Forty conversations in which boxes are pushed."""
    steps = (
        Step(role="system", content="You open boxes."),
        Step(role="user", content="Open b1."),
        call("push"),
        Step(role="tool", content="pushed", tool_call_id="call_0", tool_name="push"),
        say("Done, it is open."),
    )
    made = [
        Trajectory(
            id=str(i), workspace="w", task_id=str(i), task_group="g", task_type="boxes", agent="a",
            tools=json.dumps(Boxes.tools), end_state="completed", arrived_at=datetime(2026, 11, 2, tzinfo=UTC),
            source="test", steps=steps,
        )
        for i in range(40)
    ]  # fmt: skip
    artifacts.write_parquet(path, trajectories_table(made))
    return str(path)


def process(config: Run, home: Home) -> subprocess.Popen[str]:
    path = home.root / "run.json"
    artifacts.write_json(path, config)
    command = [sys.executable, "-m", "flywheel.train", str(path), "--home", str(home.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_from_rows_to_a_policy_that_acts_and_on_to_a_better_one(home: Home):
    config = SFTRun(data=corpus(home.root / "rows.parquet"), size=TINY, steps=60, batch=8, warmup=5, learning_rate=0.01)
    told: list[dict[str, float]] = []
    sft = run(config, home, told.append)
    assert {p.name for p in sft.folder.iterdir()} == {
        "config.json", "lineage.json", "loss.png", "manifest.json", "metrics.jsonl", "model",
    }  # fmt: skip
    assert load(sft.folder / "config.json") == config
    assert [word["step"] for word in told] == list(range(1, 61))
    losses = [json.loads(line)["loss"] for line in (sft.folder / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.1 < losses[0]
    lineage = artifacts.read_json(sft.folder / "lineage.json")
    assert (lineage["kind"], lineage["examples"], lineage["base"]) == ("sft", 40, {"model": "scratch"})
    assert set(lineage["data"]) == {"trajectories", "digest"}
    # Found, not trained again.
    assert run(config, home, told.append) == sft
    assert len(told) == 60

    task = Boxes().task("t", "open")
    actor = TransformersActor(sft.model, name="sft", version="1")
    [[act]] = actor.act([Situation(task, opening(task))], n=1, temperature=0.0, seed=0)
    assert act.step == call("push")

    pairs_storage.save(home.pairs / "p", branches(boxes(), Gates()), Gates())
    better = run(DPORun(pairs=(str(home.pairs / "p"),), base=sft.id, epochs=1, batch=2, warmup=0), home)
    assert better.weights != sft.weights
    assert artifacts.read_json(better.folder / "lineage.json")["base"]["policy"] == sft.id
    adapted = run(SFTRun(data=config.data, base=sft.id, steps=2, lora_rank=2), home)
    assert not list(adapted.model.glob("adapter*"))
    assert adapted.weights != sft.weights


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(home: Home, tmp_path: Path):
    rows = corpus(tmp_path / "rows.parquet")
    config = SFTRun(data=rows, size=TINY, steps=40, batch=4, warmup=5, checkpoint_every=4, seed=3)
    undisturbed = run(config, Home(tmp_path / "other"))

    policy_id, _ = plan(config, home)
    first = process(config, home)
    deadline = time.monotonic() + 120
    checkpoints = home.policies / f".{policy_id}.work" / "checkpoints"
    while not (checkpoints / "checkpoint-12" / "complete").exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (home.policies / policy_id).exists()

    second = process(config, home)
    told, words = second.communicate()
    assert second.returncode == 0, words
    policy = json.loads(told)
    assert policy["weights"] == undisturbed.weights
    assert json.loads(words.splitlines()[0])["step"] > 12
    metrics = (home.policies / policy_id / "metrics.jsonl").read_text()
    assert metrics == (undisturbed.folder / "metrics.jsonl").read_text()
    assert not checkpoints.exists()


def test_the_id_is_made_of_choices_and_contents(home: Home, tmp_path: Path):
    config = SFTRun(data=corpus(tmp_path / "a.parquet"))
    moved = SFTRun(data=corpus(tmp_path / "b.parquet"))
    assert plan(config, home)[0] == plan(moved, home)[0]
    assert plan(config, home)[0] != plan(msgspec.structs.replace(config, seed=1), home)[0]


def test_what_is_missing_is_told(home: Home, tmp_path: Path):
    with pytest.raises(FlywheelError, match="no file of trajectories"):
        plan(SFTRun(data="none.parquet"), home)
    with pytest.raises(FlywheelError, match="flywheel pairs"):
        plan(DPORun(pairs=("none",), base="scratch"), home)
    (tmp_path / "run.json").write_text('{"kind": "sft", "data": "x", "stepz": 3}')
    with pytest.raises(FlywheelError, match="stepz"):
        load(tmp_path / "run.json")
