"""A person who speaks in episodes, and where below a data folder she still stands."""

from __future__ import annotations

import msgspec
import pyarrow.parquet as pq

from flywheel.corpus.streaming import segments
from flywheel.schema import Step, Trajectory
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import trajectory

NAME = "Xanthippe Quillfeather"


def about(number: int) -> Trajectory:
    """The episode of that number, by somebody who says her name."""
    one = trajectory(number)
    said = Step(role="user", content=f"My order {number}, please. {NAME} here.")
    return msgspec.structs.replace(one, steps=(one.steps[0], said, *one.steps[2:]))


def holding(home: Home, text: str = NAME) -> list[str]:
    """The files below the data folder in which a text stands: as they lie, decoded, and in every state of a table."""
    import lance

    found = []
    for path in sorted(p for p in home.root.rglob("*") if p.is_file()):
        said = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            said += str(pq.ParquetFile(path).read().to_pylist())
        elif path.suffix == segments.SUFFIX:
            said += str(segments.opened(path).to_pylist())
        if text.lower() in said.lower():
            found.append(str(path.relative_to(home.root)))
    for path in sorted(home.derived.glob("*/*.lance")):
        for version in lance.dataset(str(path)).versions():
            rows = lance.dataset(str(path), version=version["version"]).to_table().to_pylist()
            found += [path.name] if text.lower() in str(rows).lower() else []
    return found
