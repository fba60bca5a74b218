"""The benchmark of redaction counts what is found and touched."""

import json
from pathlib import Path

from bench import redaction
from flywheel_tests.plants import plants


def test_a_row(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps([{"said": "Hello.\nI am ann@x.org", "again": ["Hello."]}]))
    said = redaction.texts(tmp_path)
    assert said == ["Hello.\nI am ann@x.org", "Hello."]
    row = redaction.row("flywheel", redaction.flywheel, said, plants(0, 104))
    assert (row["lines touched"], row["plants found"], row["kinds found"]) == (1 / 3, 1.0, 52)
    assert row["MB/s"] > 0
