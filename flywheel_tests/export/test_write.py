"""Exports as files: whole, the same again, and with a card that accounts for every row."""

import gzip
import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from flywheel import artifacts
from flywheel.capture.importers import importer_of
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.export import choose, write
from flywheel.export.budget import budget
from flywheel.export.learned import Learned
from flywheel.export.trajectories import Trajectories
from flywheel.preferences import storage
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.rollout import storage as forests
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.views.formats import FORMATS
from flywheel.views.steps import together
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict
from flywheel_tests.corpus.conftest import write as written
from flywheel_tests.export.test_choose import HELD, KEPT, TRAIN
from flywheel_tests.export.test_choose import desk as desk
from flywheel_tests.export.test_choose import week as week
from flywheel_tests.preferences.test_pairs import boxes


def lines(path: Path) -> list[dict]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", list(FORMATS))
def test_the_same_export_again_is_the_same_bytes(name: str, packed: bool, desk: Home, tmp_path: Path):
    chosen = choose.of_version(desk, manifest(desk, "desk"))
    told: list[tuple[int, int]] = []
    card = write.files(
        Trajectories(desk, chosen, FORMATS[name]),
        tmp_path / "a",
        packed=packed,
        progress=lambda *done: told.append(done),
    )
    write.files(Trajectories(desk, chosen, FORMATS[name]), tmp_path / "b", packed=packed)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(["card.json", "README.md", *(file.name for file in card.files)])
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert artifacts.read_json(tmp_path / "a" / "card.json") == msgspec.json.decode(msgspec.json.encode(card))
    assert card.looked_at == manifest(desk, "desk").rows == card.written + sum(card.left_out.values())
    for file in card.files:
        assert len(lines(tmp_path / "a" / file.name)) == file.rows
        assert artifacts.file_digest(tmp_path / "a" / file.name) == file.sha256
    assert told[-1] == (len(KEPT), len(KEPT))


def test_held_out_rows_are_in_none(desk: Home, tmp_path: Path):
    chosen = choose.of_workspace(desk, "support")
    for name in FORMATS:
        write.files(Trajectories(desk, chosen, FORMATS[name]), tmp_path / name)
    text = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert all(f'"{id}"'.encode() in text for id in TRAIN)
    assert not any(f'"{id}"'.encode() in text for id in HELD)


def test_steps_and_what_they_share_are_the_record(desk: Home, tmp_path: Path):
    chosen = choose.of_workspace(desk, "support")
    write.files(Trajectories(desk, chosen, FORMATS["steps"]), tmp_path / "json")
    write.files(Trajectories(desk, chosen, FORMATS["steps"]), tmp_path / "parquet", columns=True)
    in_json = [lines(tmp_path / "json" / f"{name}.jsonl") for name in ("trajectories", "steps")]
    in_parquet = [pq.read_table(tmp_path / "parquet" / f"{n}.parquet").to_pylist() for n in ("trajectories", "steps")]
    expected = [trajectory(int(id[1:])) for id in TRAIN]
    for shared, steps in (in_json, in_parquet):
        assert [together(row, [s for s in steps if s["trajectory_id"] == row["id"]]) for row in shared] == expected
        assert [row["reward"] for row in shared] == [float(id not in ("t003", "t007")) for id in TRAIN]
    with pytest.raises(FlywheelError, match="openai is JSON Lines"):
        write.files(Trajectories(desk, chosen, FORMATS["openai"]), tmp_path / "x", columns=True)


def test_hermes_success_and_failure_stand_apart(home: Home, tmp_path: Path):
    ends = {0: "completed", 1: "partial", 4: "failed", 5: "completed"}
    rows = [msgspec.structs.replace(trajectory(n), end_state=end, task_group="g-train") for n, end in ends.items()]
    written(home, rows, [verdict(n, 1.0) for n in ends])
    chosen = choose.of_workspace(home, "support")
    write.files(Trajectories(home, chosen, FORMATS["hermes"]), tmp_path / "h", packed=True)
    completed, failed = (lines(tmp_path / "h" / f"{n}.jsonl.gz") for n in ("trajectory_samples", "failed_trajectories"))
    assert [(row["metadata"]["trajectory_id"], row["completed"], row["partial"]) for row in [*completed, *failed]] == [
        ("t000", True, False),
        ("t005", True, False),
        ("t001", False, True),
        ("t004", False, False),
    ]
    assert [row["prompt_index"] for row in [*completed, *failed]] == [0, 3, 1, 2]
    assert completed[0]["tool_stats"] == {"look_up": {"count": 1, "success": 1, "failure": 0}}
    assert completed[0]["tool_error_counts"] == {"look_up": 0} and completed[0]["api_calls"] == 2
    speakers = [turn["from"] for turn in completed[0]["conversations"]]
    assert speakers == ["system", "human", "gpt", "tool", "gpt"]
    assert completed[0]["conversations"][2]["value"] == (
        '<think>\nLook first.\n</think>\n<tool_call>\n{"name": "look_up", "arguments": {"order": 0}}\n</tool_call>'
    )
    assert completed[0]["conversations"][4]["value"] == "<think>\n</think>\nYour refund 0 is done."
    # Where one of both is empty, the page leads to the other alone.
    write.files(Trajectories(home, chosen.page(None, 1)[0], FORMATS["hermes"]), tmp_path / "one", packed=True)
    assert lines(tmp_path / "one" / "failed_trajectories.jsonl.gz") == []
    assert "path: failed" not in (tmp_path / "one" / "README.md").read_text()
    # One line as Python prints it, keys in the order of the runner.
    raw = gzip.decompress((tmp_path / "h" / "trajectory_samples.jsonl.gz").read_bytes()).splitlines()[0].decode()
    assert raw.startswith('{"prompt_index": 0, "conversations": [{"from": "system", "value": "You help.')
    assert importer_of(tmp_path / "h" / "failed_trajectories.jsonl.gz").NAME == "hermes"


def test_rows_that_a_format_has_no_place_for_are_counted(home: Home, tmp_path: Path):
    silent = msgspec.structs.replace(trajectory(1), steps=trajectory(1).steps[:2])
    mute = msgspec.structs.replace(trajectory(2), steps=trajectory(2).steps[-1:])
    rows = [trajectory(0), silent, mute, *(msgspec.structs.replace(trajectory(n), id=f"again{n}") for n in (0,))]
    written(home, [msgspec.structs.replace(row, task_group="g-train") for row in rows], [verdict(0, 1.0, "reward")])
    chosen = choose.of_workspace(home, "support")

    def left_out(name: str) -> dict[str, int]:
        return write.files(Trajectories(home, chosen, FORMATS[name]), tmp_path / name).left_out

    assert left_out("trl-sft") == left_out("openai") == {"the assistant says nothing": 1}
    assert left_out("trl-kto") == {"no verdict": 3}
    assert left_out("trl-prompts") == {"no user asks anything": 1, "the same prompt of the same task": 1}
    assert left_out("steps") == left_out("sharegpt") == {}


def test_long_ones_are_brought_to_a_budget_and_the_card_says_so(desk: Home, tmp_path: Path):
    chosen = choose.of_version(desk, manifest(desk, "desk"))
    long = [
        msgspec.structs.replace(
            trajectory(n),
            id=f"long{n}",
            task_group="g-train",
            steps=(*trajectory(n).steps[:4], *trajectory(n).steps[2:4] * 20, *trajectory(n).steps[-2:]),
        )
        for n in range(2)
    ]
    written(desk, long, [])
    chosen = choose.of_workspace(desk, "support")
    card = write.files(Trajectories(desk, chosen, FORMATS["trl-sft"], budget(300)), tmp_path / "x")
    assert card.compressed == {"with a marker": 2}
    assert card.budget == {"max_tokens": 300, "counted_by": "characters / 4", "summarised_by": "a marker"}
    rows = {row["id"]: row for row in lines(tmp_path / "x" / "train.jsonl")}
    beside = {row["trajectory_id"]: row for row in lines(tmp_path / "x" / "compression.jsonl")}
    assert set(beside) == {"long0", "long1"}
    assert rows["long0"]["compression"] == beside["long0"]
    marked = beside["long0"]
    assert rows["long0"]["messages"][marked["first"]]["content"].startswith("[CONTEXT SUMMARY]: ")
    assert len(marked["step_sha256"]) == marked["end"] - marked["first"]
    assert "compression" not in rows[TRAIN[0]]
    summarised = budget(600, summariser="flywheel_tests.export.test_write:summary")
    card = write.files(Trajectories(desk, chosen, FORMATS["hermes"], summarised), tmp_path / "y")
    assert card.compressed == {"with a summary": 2}
    with pytest.raises(FlywheelError, match="there is no summariser"):
        budget(300, summariser="nowhere:nothing")


def summary(steps, most: int) -> str:
    return f"{len(steps)} steps."


def test_pairs_and_step_records(home: Home, tmp_path: Path):
    trees = boxes()
    storage.save(home.pairs / "p", branches(trees, Gates(decision_share=1.0)), Gates())
    forests.save(home.trees / "t", trees, Gates())
    card = write.files(Learned(home, "trl-dpo", "p", "decision LIKE '%look%'"), tmp_path / "dpo")
    assert (card.looked_at, card.written, card.left_out) == (3, 1, {"the condition": 2})
    [row] = lines(tmp_path / "dpo" / "train.jsonl")
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["chosen"][0]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"box": "b1"}}
    assert row["rejected"][0]["tool_calls"][0]["function"]["name"] == "push"
    assert [tool["function"]["name"] for tool in json.loads(row["tools"])] == ["look", "push"]
    with pytest.raises(FlywheelError, match="filter 'nonsense': there is no column nonsense"):
        Learned(home, "trl-dpo", "p", "nonsense")

    card = write.files(Learned(home, "step-records", "t"), tmp_path / "steps", columns=True)
    assert write.files(Learned(home, "step-records", "t"), tmp_path / "lines").written == card.written
    in_parquet = pq.read_table(tmp_path / "steps" / "train.parquet").to_pylist()
    in_json = lines(tmp_path / "lines" / "train.jsonl")
    assert [row | {k: json.loads(row[k]) for k in ("prompt", "response")} for row in in_parquet] == in_json
    assert in_json[0]["prompt"][-1] == {"role": "user", "content": "Open b1."}
    assert in_json[0]["response"]["role"] == "assistant"


def test_nothing_is_left_where_it_fails_and_no_other_folder_is_touched(desk: Home, tmp_path: Path):
    chosen = choose.of_version(desk, manifest(desk, "desk"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(FlywheelError, match="is no export: name another folder"):
        write.files(Trajectories(desk, chosen, FORMATS["openai"]), mine)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write.files(Trajectories(desk, chosen, FORMATS["openai"]), tmp_path / "new", progress=stop)
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["mine"]
    assert (mine / "thesis.txt").read_text() == "precious"
    write.files(Trajectories(desk, chosen, FORMATS["openai"]), tmp_path / "new")
    write.files(Trajectories(desk, chosen, FORMATS["sharegpt"]), tmp_path / "new")
    assert (tmp_path / "new" / "train.jsonl").read_bytes().startswith(b'{"conversations"')


def test_the_page_of_a_version(week: Home, tmp_path: Path):
    snapshot(week, "desk", SPEC, MONDAY)
    chosen = choose.of_version(week, manifest(week, "desk"))
    write.files(Trajectories(week, chosen, FORMATS["axolotl"]), tmp_path / "x", license="mit")
    page = (tmp_path / "x" / "README.md").read_text()
    for part in (
        "license: mit\n",
        "path: train.jsonl",
        f"{len(KEPT)} trajectories in the format axolotl",
        "| held out |",
        manifest(week, "desk").digest,
        "type: chat_template",
        "| steps.is_error | no place for it |",
    ):
        assert part in page, part
