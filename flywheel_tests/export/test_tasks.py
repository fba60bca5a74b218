"""The tries of each task together: pairs and step records of what was captured, every trajectory accounted for."""

import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.export import choose, formats, write
from flywheel.schema import FlywheelError, Step, Trajectory
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict
from flywheel_tests.corpus.conftest import write as written
from flywheel_tests.export.test_choose import HELD


def tried(number: int, task: str, *said: str, group: str = "g-train") -> Trajectory:
    """A try of a task by words alone; a user answers between them."""
    steps = [Step(role="user", content=f"Do {task}.")]
    for text in said:
        steps += [Step(role="assistant", content=text), Step(role="user", content="Go on.")]
    made = trajectory(number)
    return msgspec.structs.replace(made, task_id=task, task_group=group, steps=tuple(steps[:-1]))


TRIES = [
    tried(0, "apples", "Look.", "Pay."),
    tried(1, "apples", "Look.", "Refuse."),
    tried(2, "apples", "Guess."),
    tried(3, "pears", "Pay."),
    tried(4, "pears", "Pay."),
    tried(5, "plums", "Ask.", "Pay."),
    tried(6, "plums", "Ask.", "Pay again."),
    tried(7, "plums", "Ask."),
    tried(8, "nuts", "Pay.", group=f"group-{int(HELD[0][1:])}"),
]
WON = {0: 1.0, 1: 0.0, 2: 0.0, 3: 1.0, 4: 0.0, 5: 1.0, 6: 1.0, 8: 1.0}


@pytest.fixture
def tries(home: Home) -> Home:
    written(home, TRIES, [verdict(n, value, "reward") for n, value in WON.items()])
    return home


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def test_pairs_of_what_a_workspace_captured(tries: Home, tmp_path: Path):
    source = formats.source(tries, choose.of_workspace(tries, "support"), "trl-dpo", gates=formats.gates(None, 0.7))
    card = write.files(source, tmp_path / "dpo")
    [pair] = rows(tmp_path / "dpo")
    assert pair["prompt"] == [
        {"role": "user", "content": "Do apples."},
        {"role": "assistant", "content": "Look."},
        {"role": "user", "content": "Go on."},
    ]
    assert (pair["chosen"], pair["rejected"]) == (
        [{"role": "assistant", "content": "Pay."}],
        [{"role": "assistant", "content": "Refuse."}],
    )
    assert (pair["chosen_trajectories"], pair["rejected_trajectories"]) == (["t000"], ["t001"])
    assert (pair["task_id"], pair["margin"], pair["decision"]) == ("apples", 1.0, "desk: say Pay > say Refuse")
    assert (card.looked_at, card.written, card.unit) == (9, 2, "trajectories")
    assert card.left_out == {
        # A guess ended in failure, and looking first half the time: the gap is less than the margin.
        "margin": 1,
        "no verdict": 1,
        "no other try of the task did anything else": 2,
        "settled": 2,
        "held out": 1,
    }
    assert card.made_of["gates"] == {"margin": 0.6, "probability": 0.7, "edge": 0.02, "per_task": 4}
    assert "| chosen_trajectories |" not in (tmp_path / "dpo" / "README.md").read_text()


def test_pairs_of_a_version_and_of_a_statement(tries: Home, tmp_path: Path):
    spec = msgspec.structs.replace(SPEC, filter="reward is not null", prefix_duplicates=False)
    spec = msgspec.structs.replace(spec, reward_policy=choose.RewardPolicy())
    snapshot(tries, "tries", spec, MONDAY)
    version = choose.of_version(tries, manifest(tries, "tries"))
    card = write.files(formats.source(tries, version, "trl-dpo"), tmp_path / "version")
    assert (card.made_of["corpus"], card.written) == ("tries", 2)
    assert card.looked_at == manifest(tries, "tries").rows == card.written + sum(card.left_out.values())
    ids = choose.ids(tries, "SELECT trajectory_id FROM joined WHERE trajectory_id IN ('t000', 't002')")
    stated = choose.of_workspace(tries, "support", ids=ids, sql="...")
    # Looking and guessing are all there is now, and only looking succeeded.
    write.files(formats.source(tries, stated, "trl-dpo", gates=formats.gates(0.5, None)), tmp_path / "sql")
    [pair] = rows(tmp_path / "sql")
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("Look.", "Guess.")


def test_step_records(tries: Home, tmp_path: Path):
    source = formats.source(tries, choose.of_workspace(tries, "support"), "step-records")
    card = write.files(source, tmp_path / "lines")
    made = rows(tmp_path / "lines")
    assert (card.written, card.files[0].rows, card.left_out) == (7, 11, {"held out": 1, "no verdict": 1})
    of_apples = [(r["trajectory_uid"], r["step_index"], r["step_reward"], r["value"]) for r in made[:5]]
    assert of_apples == [
        ("t000", 0, 0.0, pytest.approx(1 / 3)),
        ("t000", 1, 1.0, 0.5),
        ("t001", 0, 0.0, pytest.approx(1 / 3)),
        ("t001", 1, 0.0, 0.5),
        ("t002", 0, 0.0, pytest.approx(1 / 3)),
    ]
    assert made[1]["response"] == {"role": "assistant", "content": "Pay."}
    write.files(source, tmp_path / "columns", columns=True)
    in_columns = pq.read_table(tmp_path / "columns" / "train.parquet").to_pylist()
    assert [row | {k: json.loads(row[k]) for k in ("prompt", "response")} for row in in_columns] == made


@pytest.mark.parametrize("name", ["trl-dpo", "step-records"])
def test_pages_are_of_whole_tasks(tries: Home, name: str):
    source = formats.source(tries, choose.of_workspace(tries, "support"), name, gates=None)
    whole = [row for made in source.made(lambda reason, units: None) for row in made.rows]
    paged, cursor, tasks = [], None, []
    for _ in range(3):
        page, cursor = source.page(cursor, 1)
        tasks.append(cursor)
        paged += [row for made in page.made(lambda reason, units: None) for row in made.rows]
    assert (tasks, paged) == (["apples", "pears", None], whole)


def test_what_is_none_of_a_format_s_is_refused(tries: Home, tmp_path: Path):
    chosen = choose.of_workspace(tries, "support")
    with pytest.raises(FlywheelError, match="there is no format 'dpo'; there are: trl-sft"):
        formats.source(tries, chosen, "dpo")
    with pytest.raises(FlywheelError, match="are for trl-dpo, not for step-records"):
        formats.source(tries, chosen, "step-records", gates=formats.gates(0.1, None))
    with pytest.raises(FlywheelError, match="trl-dpo is JSON Lines"):
        write.files(formats.source(tries, chosen, "trl-dpo"), tmp_path / "x", columns=True)


def test_a_statement_that_gives_nothing(tries: Home):
    chosen = choose.of_workspace(tries, "support", ids=[], sql="...")
    assert list(formats.source(tries, chosen, "trl-dpo").made(lambda reason, units: None)) == []
