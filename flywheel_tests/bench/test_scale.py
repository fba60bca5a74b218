"""The benchmarks of scale at tiny sizes: all is accounted for, and each way gives the same answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bench import curate, measure, steps, versions, whole
from flywheel.corpus.manifest import manifest


def here(work: Callable[..., Any], *arguments: Any) -> measure.Used:
    return measure.Used(seconds=1.0, cpu=1.0, peak=1, given=work(*arguments))


@pytest.fixture(autouse=True, scope="module")
def in_this_process() -> Iterator[None]:
    """To start processes would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "apart", here)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    curate.folder(folder, 400)
    return folder


def test_curation_accounts_for_every_candidate(root: Path) -> None:
    [row] = curate.run(root, [400], 1)
    assert row["trajectories"] == 400
    assert 0 < row["kept"] < 400
    assert row["duplicates"] > 0
    assert row["recall at .7"] == 1.0


def test_the_exponent_of_growth() -> None:
    assert curate.slope([10, 100, 1000], [1.0, 10.0, 100.0]) == pytest.approx(1.0)
    assert curate.slope([10, 100], [3.0, 3.0]) == pytest.approx(0.0)


def test_a_version_after_late_outcomes_equals_one_from_nothing(root: Path) -> None:
    rows, note = versions.run(root, 400, 0.02, runs=1, rebuilds=1)
    assert [row["version"] for row in rows] == ["from nothing", "after late outcomes", "unchanged"]
    assert rows[2]["bytes written"] == "0 B"
    assert "8 late outcomes" in note


def test_every_store_gives_the_same_steps(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "find_spec", lambda name: None)
    home = curate.folder(root, 400)
    steps.build(home)
    of = manifest(home, steps.CORPUS)
    steps.export(home, of, tmp_path / "export")
    for columns in (steps.LIGHT, steps.WHOLE):
        answers = {name: ask() for name, ask in steps.questions(home, of, tmp_path / "export", columns).items()}
        first, *others = answers.values()
        assert isinstance(first, pl.DataFrame)
        assert first.height > 0
        assert all(first.equals(other) for other in others)
    asked = steps.takes(home, of, tmp_path / "export", 10)
    taken = {len(take()) for takes in asked.values() for take in takes}
    assert taken == {10}


def test_what_was_captured_is_streamed(tmp_path: Path) -> None:
    rows, note = whole.run(tmp_path, 300, processes=1)
    assert rows[0]["rows"] == 300
    assert rows[-1]["rows"] > 0
    assert "dropped: none" in note


def test_bytes_under_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert measure.bytes_under(tmp_path) == 5
