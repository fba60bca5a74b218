"""Files and folders are whole or absent, whatever happens while they are written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel import artifacts


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_written_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    artifacts.write_bytes(path, b"old")
    artifacts.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    artifacts.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        artifacts.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_json_is_readable_and_sorted(tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / "a.json", {"b": 1, "a": [True, None, "ü"]})
    assert (tmp_path / "a.json").read_text().startswith('{\n  "a": [')
    assert artifacts.read_json(tmp_path / "a.json") == {"a": [True, None, "ü"], "b": 1}


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "y": ["a", None]})
    artifacts.write_parquet(tmp_path / "t.parquet", table)
    assert pq.read_table(tmp_path / "t.parquet").equals(table)


def test_a_folder_takes_its_place_when_its_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "run"
    for content in ("old", "new"):
        with artifacts.folder(place) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / content).write_text(content)
            assert not (place / "inner" / content).exists()
    assert names(place / "inner") == ["new"]
    assert names(tmp_path) == ["run"]


def test_a_folder_whose_block_raises_leaves_the_old_one(tmp_path: Path) -> None:
    with artifacts.folder(tmp_path / "run") as folder:
        (folder / "old").touch()
    with pytest.raises(RuntimeError), artifacts.folder(tmp_path / "run") as folder:
        (folder / "new").touch()
        raise RuntimeError
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


LEFT = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left a moment ago counts as left."""
    monkeypatch.setattr(artifacts, "FRESH", -1.0)


def test_sweeping_removes_what_interrupted_writes_left_at_any_depth(tmp_path: Path, at_once: None) -> None:
    (tmp_path / "deep" / f".run.{LEFT}.tmp").mkdir(parents=True)
    (tmp_path / "deep" / f".run.{LEFT}.tmp" / "half").touch()
    (tmp_path / "deep" / f".file.{LEFT}.tmp").touch()
    (tmp_path / "deep" / f".run.{LEFT}.old").mkdir()
    (tmp_path / "deep" / f".{LEFT}.new").touch()
    (tmp_path / "deep" / "run").mkdir()
    (tmp_path / "deep" / ".hidden.tmp").touch()
    artifacts.sweep(tmp_path)
    artifacts.sweep(tmp_path / "absent")
    assert names(tmp_path / "deep") == [".hidden.tmp", "run"]


def test_a_folder_that_was_moved_aside_goes_back_when_nothing_took_its_place(tmp_path: Path, at_once: None) -> None:
    (tmp_path / f".run.{LEFT}.old").mkdir()
    (tmp_path / f".run.{LEFT}.old" / "whole").touch()
    (tmp_path / f".run.{LEFT}.tmp").mkdir()
    artifacts.sweep(tmp_path)
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["whole"]


def test_sweeping_leaves_what_is_being_written(tmp_path: Path, at_once: None) -> None:
    with artifacts.folder(tmp_path / "run") as folder:
        (folder / "half").touch()
        artifacts.sweep(tmp_path)
        assert (folder / "half").exists()
    assert names(tmp_path) == ["run"]


def test_what_was_made_a_moment_ago_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / f".file.{LEFT}.tmp").touch()
    artifacts.sweep(tmp_path)
    assert names(tmp_path) == [f".file.{LEFT}.tmp"]


def test_a_scratch_folder_goes_with_its_block_or_with_its_process(tmp_path):
    with artifacts.scratch(tmp_path) as place:
        (place / "a").write_text("b")
        artifacts.sweep(tmp_path)
        assert (place / "a").read_text() == "b"
    assert not list(tmp_path.iterdir())
