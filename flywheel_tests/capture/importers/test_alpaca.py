"""Alpaca records as trajectories."""

import json
from pathlib import Path

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Bad, Record
from flywheel.schema import Step
from flywheel_tests.capture.importers.conftest import NOW, Read


def test_an_instruction_with_and_without_an_input(read: Read) -> None:
    rows = [
        {"instruction": "Reverse.", "input": "abc", "output": "cba", "text": "### Reverse. abc cba", "topic": "words"},
        {"instruction": "Say hi.", "input": "", "output": "hi", "system": "Be brief.", "history": [["A?", "B."]]},
    ]
    first, second = (r for r in read(rows) if isinstance(r, Record))
    assert first.trajectory.steps == (
        Step(role="user", content="Reverse.\n\nabc"),
        Step(role="assistant", content="cba"),
    )
    assert second.trajectory.steps == (
        Step(role="system", content="Be brief."),
        Step(role="user", content="A?"),
        Step(role="assistant", content="B."),
        Step(role="user", content="Say hi."),
        Step(role="assistant", content="hi"),
    )
    about = json.loads(first.trajectory.metadata)
    assert about["topic"] == "words" and "text" not in about
    assert (first.trajectory.task_type, first.trajectory.end_state) == ("instruction", "completed")
    assert first.outcomes == second.outcomes == ()  # unlabelled is not success


def test_a_record_without_an_output_is_set_aside(read: Read) -> None:
    bad, good = read([{"instruction": "Say hi."}, {"instruction": "Say hi.", "output": "hi"}], "x.jsonl")
    assert isinstance(bad, Bad) and (bad.line, bad.excerpt) == (1, '{"instruction": "Say hi."}')
    assert "missing required field `output`" in bad.error
    assert isinstance(good, Record)


def test_a_real_file(shared_data: Path) -> None:
    path = shared_data / "sharegpt" / "alpaca.axolotl.json"
    importer = importer_of(path)
    made = list(importer.read(path, "desk", NOW))
    rows = json.loads(path.read_bytes())
    assert importer.NAME == "alpaca"
    assert [[s.content for s in r.trajectory.steps] for r in made if isinstance(r, Record)] == [
        [f"{row['instruction']}\n\n{row['input']}", row["output"]] for row in rows
    ]
