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


def test_sweeping_removes_what_interrupted_writes_left(tmp_path: Path) -> None:
    (tmp_path / ".run.123.tmp").mkdir()
    (tmp_path / ".run.123.tmp" / "half").touch()
    (tmp_path / ".file.456.tmp").touch()
    (tmp_path / ".run.789.old").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / ".hidden").touch()
    artifacts.sweep(tmp_path)
    artifacts.sweep(tmp_path / "absent")
    assert names(tmp_path) == [".hidden", "run"]
