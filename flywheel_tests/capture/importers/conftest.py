"""Reads records through an importer, from a value written to a file."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.capture.importers import IMPORTERS, Known
from flywheel.capture.importers.records import Bad, Record

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
FORMATS = Known(list(IMPORTERS), {}, [])  # without those of other packages, which take a while to look for
Read = Callable[..., list[Record | Bad]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a value as JSON (or, a list under a `.jsonl` name, as lines), finds its format, and reads it."""

    def reading(value: Any, name: str = "model-x.json") -> list[Record | Bad]:
        path = tmp_path / "results" / name
        path.parent.mkdir(exist_ok=True)
        lines = [json.dumps(v) for v in value] if name.endswith(".jsonl") else [json.dumps(value)]
        path.write_text("\n".join(lines))
        return list(FORMATS.importer_of(path).read(path, "desk", NOW))

    return reading
