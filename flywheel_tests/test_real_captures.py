"""Real captures go the whole way by the commands of `docs/real-captures.md`, from ingest to report."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flywheel.schema import canonical_json
from flywheel_tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="real captures are not beside this checkout (../shared/data)"),
]


class Scratch(NamedTuple):
    """A data folder of its own, and the command line upon it."""

    root: Path

    def flywheel(self, *words: str) -> Any:
        """The one JSON document that a command prints."""
        done = subprocess.run(
            [sys.executable, "-c", "from flywheel.cli import main; main()", *words, "--json"],
            env=os.environ | {"FLYWHEEL_HOME": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        return json.loads(done.stdout)

    def ask(self, sql: str) -> Any:
        """The first cell of the answer to a query."""
        return next(iter(self.flywheel("query", sql)[0].values()))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    return Scratch(tmp_path_factory.mktemp("real") / "data")


@pytest.fixture(scope="module")
def airline(scratch: Scratch) -> dict[str, Any]:
    """The tau-bench captures as a corpus version; the manifest of it."""
    scratch.flywheel("workspace", "create", "airline")
    report = scratch.flywheel("ingest", str(DATA / "tau-bench"), "--workspace", "airline")
    assert (report["total"]["added"], report["total"]["quarantined"]) == (200, 0)
    return scratch.flywheel("snapshot", "airline", "--filter", "reward > 0", "--to", "airline")


@pytest.fixture(scope="module")
def read(scratch: Scratch, airline: dict[str, Any]) -> list[dict[str, Any]]:
    """Every row of the version as a model reads it: those that train, and those that are held out."""
    return [
        row
        for split in ("train", "heldout")
        for row in scratch.flywheel("stream", "airline@v1", "--limit", "1000", "--split", split)
    ]


def source() -> list[dict[str, Any]]:
    return json.loads((DATA / "tau-bench" / "gpt-4o-airline.json").read_bytes())


def text_of(row: dict[str, Any]) -> str:
    return "".join(span["text"] for span in row["spans"])


def written(arguments: dict[str, Any]) -> Iterator[str]:
    """Arguments in the ways in which logs and programs write them."""
    yield canonical_json(arguments)
    yield json.dumps(arguments)
    yield json.dumps(arguments, separators=(",", ":"))
    yield json.dumps(arguments, indent=2)
    yield json.dumps(json.dumps(arguments))[1:-1]
    yield repr(arguments)


def calls(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What an agent called: tools with arguments in one spelling."""
    for message in run["traj"]:
        for call in message.get("tool_calls") or ():
            yield call["function"]["name"], canonical_json(json.loads(call["function"]["arguments"]))


def test_every_record_is_there_once(scratch: Scratch, airline: dict[str, Any]) -> None:
    assert scratch.ask("SELECT count(*) FROM trajectories WHERE workspace = 'airline'") == 200
    assert scratch.ask("SELECT count(*) FROM steps WHERE workspace = 'airline'") == 5308
    assert scratch.ask("SELECT count(*) FROM tool_calls WHERE workspace = 'airline'") == 1164
    successes = "SELECT count(*) FROM joined WHERE workspace = 'airline' AND success"
    assert scratch.ask(successes) == 84
    again = scratch.flywheel("ingest", str(DATA / "tau-bench"), "--workspace", "airline")["total"]
    assert (again["added"], again["outcomes"], again["already_there"]) == (0, 0, 200)


def test_tau2_and_intercode_are_accounted_for(scratch: Scratch) -> None:
    for name, count in {"tau2": 62, "intercode": 3281}.items():
        scratch.flywheel("workspace", "create", name)
        for added in (count, 0):
            report = scratch.flywheel("ingest", str(DATA / name), "--workspace", name)
            assert report["total"]["records"] == count
            assert report["total"]["added"] == added
            for file in report["files"]:
                parts = ("added", "already_there", "duplicates", "quarantined")
                assert file["records"] == sum(file[part] for part in parts)
        stored = scratch.ask(f"SELECT count(*) FROM trajectories WHERE workspace = '{name}'")
        assert stored + scratch.ask(f"SELECT count(*) FROM quarantine WHERE workspace = '{name}'") == count


def test_each_candidate_is_in_or_out_for_a_reason(scratch: Scratch, airline: dict[str, Any]) -> None:
    assert airline["candidates"] == 200 == sum(airline["reasons"].values())
    assert airline["rows"] == sum(airline["splits"].values())
    split = (
        "SELECT count(DISTINCT split) AS sides FROM decisions JOIN trajectories ON id = candidate GROUP BY task_group"
    )
    assert {row["sides"] for row in scratch.flywheel("query", split)} == {1}
    lost = "SELECT count(*) FROM decisions WHERE split = 'train' AND kept AND NOT success"
    assert scratch.ask(lost) == 0


def test_a_row_says_what_was_said_and_nothing_else(read: list[dict[str, Any]], airline: dict[str, Any]) -> None:
    """Whatever is trained on stands in the run's own messages."""
    assert len(read) == airline["rows"]
    messages: dict[str, set[str]] = {}
    for run in source():
        task = f"tau-bench-airline-{run['task_id']}"
        messages.setdefault(task, set()).update((m.get("content") or "").strip() for m in run["traj"])
        messages[task].update(canonical_json([name, json.loads(text)]) for name, text in calls(run))
    for row in read:
        for span in row["spans"]:
            if span["trained"] and "<EMAIL>" not in span["text"]:
                said, *called = span["text"].removesuffix("<|im_end|>").split("<tool_call>")
                assert said.strip() in messages[row["task_id"]]
                for call in called:
                    made = json.loads(call.split("</tool_call>")[0])
                    assert canonical_json([made["name"], made["arguments"]]) in messages[row["task_id"]]


def test_no_reference_answer_is_in_any_row(read: list[dict[str, Any]]) -> None:
    """Searched for in all rows: the checker's hashes, what the simulated user was told in secret, and each reference
    action that no agent took by itself (one that an agent took is in its own row, rightly).
    """
    runs = source()
    everything = "\n".join(text_of(row) for row in read)
    assert len(everything) > 500_000
    taken = {call for run in runs for call in calls(run)}
    references: dict[str, dict[str, Any]] = {}
    for run in runs:
        task = run["info"]["task"]
        assert task["instruction"] not in everything
        hash = ((run["info"]["reward_info"] or {}).get("info") or {}).get("gt_data_hash")
        assert hash is None or hash not in everything
        for action in task["actions"]:
            if (action["name"], canonical_json(action["kwargs"])) not in taken:
                references[canonical_json(action)] = action
    assert len(references) > 20
    arguments_taken = {arguments for _, arguments in taken}
    searched = 0
    for action in references.values():
        call = {"name": action["name"], "arguments": action["kwargs"]}
        for form in (*written(action), *written(call)):
            assert form not in everything
        # The arguments alone are no give-away where an agent used the same ones with another tool.
        if action["kwargs"] and canonical_json(action["kwargs"]) not in arguments_taken:
            searched += 1
            for form in written(action["kwargs"]):
                assert form not in everything
    assert searched > 5
    # The search finds what an agent did do, so it would find the rest.
    found = sum(any(form in everything for form in written(json.loads(arguments))) for _, arguments in taken)
    assert found > 100
    for word in ("gt_data_hash", "reward_info", "r_actions", '"instruction"'):
        assert word not in everything


def test_a_small_policy_is_trained_and_judged_on_held_out_tasks(scratch: Scratch, airline: dict[str, Any]) -> None:
    size = ("--context", "512", "--batch", "4")
    untrained = scratch.flywheel("train", "sft", "airline@v1", "--steps", "1", *size)["id"]
    trained = scratch.flywheel("train", "sft", "airline@v1", "--steps", "20", *size)["id"]
    lineage = json.loads((scratch.root / "policies" / trained / "lineage.json").read_bytes())
    assert lineage["data"] == {"corpus": "airline", "version": 1, "digest": airline["digest"]}
    # Long trajectories are cut into windows, so there are more sequences than rows.
    assert lineage["examples"] > 2 * airline["splits"]["train"]

    judged = ("evaluate", trained, untrained, "--suite", "none", "--offline", "airline@v1", "--rows", "4")
    report = scratch.flywheel(*judged)
    assert (report["corpus"], report["corpus_digest"]) == ("airline@v1", airline["digest"])
    after, before = report["tables"]["Offline, on held-out captures"]
    assert (after["policy"], before["policy"]) == (trained, untrained)
    assert after["trajectories"] == before["trajectories"] == 4
    assert after["tokens"] == before["tokens"] > 1000
    assert after["nll per token"] < before["nll per token"] - 0.5
    for measured in (after, before):
        for share in ("right action", "right tool", "right arguments", "commonest action"):
            assert 0 <= measured[share] <= 1
        assert measured["positions"] == 16 >= measured["calls"]
    actions = report["tables"][f"Offline, {trained} by action"]
    assert sum(row["positions"] for row in actions) == after["positions"]
    assert scratch.flywheel("report", "latest") == report
    page = (scratch.root / "reports" / report["id"] / "report.md").read_text()
    assert "Offline, on held-out captures" in page
