"""Derived tables: they mirror the captures file by file, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel import warehouse
from flywheel.curate import derivation, derived
from flywheel.curate.derivation import Derivation
from flywheel.curate.derived import bring, opened
from flywheel.curate.upkeep import compact, purge, remake
from flywheel.schema import FlywheelError, content_digest
from flywheel_tests.outcomes.stored import store, trajectory


def lengths(rows: pa.Table) -> pa.Table:
    """How many steps each trajectory has, and the length of its task's name."""
    return pa.table({"steps": rows["n_steps"], "name": [len(name) for name in rows["task_id"].to_pylist()]})


LENGTHS = Derivation(
    name="lengths",
    recipe="1",
    columns=("task_id", "n_steps"),
    schema=pa.schema([("steps", pa.int64()), ("name", pa.int64())]),
    compute=lengths,
)


def content(dataset):
    """A table's rows in their order."""
    return dataset.to_table(scan_in_order=True).to_pylist()


def names(home):
    return [file.name for file in warehouse.files(home.captures, "w")]


def leftovers(home):
    """Data files that the table does not hold."""
    dataset = opened(home, "w", LENGTHS)
    held = {file.path for fragment in dataset.get_fragments() for file in fragment.data_files()}
    return {file.name for file in (derived.folder(home, "w", LENGTHS) / "data").iterdir()} - held


def test_a_row_for_each_captured_row(home):
    store(home, trajectory("a", "hi", "hello", task="mend"))
    assert content(bring(home, "w", LENGTHS)) == [
        {
            "id": "a",
            "content_digest": content_digest(trajectory("a", "hi", "hello")),
            "file": names(home)[0],
            "steps": 2,
            "name": 4,
        }
    ]


def test_it_lies_under_its_recipe(home):
    bring(home, "w", LENGTHS)
    assert derived.folder(home, "w", LENGTHS) == home.derived / "w" / "lengths-6b86b273ff34.lance"
    assert derived.folder(home, "w", LENGTHS).is_dir()


def test_without_captures_the_table_is_empty(home):
    dataset = bring(home, "w", LENGTHS)
    assert dataset.count_rows() == 0
    assert dataset.schema.names == ["id", "content_digest", "file", "steps", "name"]


def test_what_was_never_brought_cannot_be_opened(home):
    with pytest.raises(FlywheelError, match="nothing has been derived yet for workspace 'w'"):
        opened(home, "w", LENGTHS)


def test_only_new_files_are_computed(home):
    told = []
    store(home, trajectory("a"), trajectory("b"))
    bring(home, "w", LENGTHS, progress=lambda done, total: told.append((done, total)))
    store(home, trajectory("c", hours=24))
    bring(home, "w", LENGTHS, progress=lambda done, total: told.append((done, total)))
    version = bring(home, "w", LENGTHS, progress=lambda done, total: told.append((done, total))).version
    assert told == [(2, 2), (1, 1)]
    assert version == opened(home, "w", LENGTHS).version


def test_rows_stand_in_the_order_of_days_then_files(home):
    for hours in (48, 0, 24):
        store(home, trajectory(f"{hours}", hours=hours))
    assert [row["id"] for row in content(bring(home, "w", LENGTHS))] == ["0", "24", "48"]


def test_rows_of_files_that_are_gone_go_too(home):
    store(home, trajectory("a"))
    store(home, trajectory("b", hours=24))
    bring(home, "w", LENGTHS)
    warehouse.files(home.captures, "w")[0].unlink()
    assert [row["id"] for row in content(bring(home, "w", LENGTHS))] == ["b"]


def test_one_id_in_two_files_has_a_row_for_each(home):
    store(home, trajectory("a"))
    store(home, trajectory("a", hours=24))
    assert [(row["id"], row["file"]) for row in content(bring(home, "w", LENGTHS))] == [
        ("a", name) for name in names(home)
    ]


def test_workspaces_have_tables_of_their_own(home):
    store(home, trajectory("a"))
    assert bring(home, "other", LENGTHS).count_rows() == 0
    assert bring(home, "w", LENGTHS).count_rows() == 1


def test_a_file_without_rows_has_none_to_derive(home):
    store(home, trajectory("a"))
    (file,) = warehouse.files(home.captures, "w")
    pq.write_table(pq.read_table(file, partitioning=None).slice(0, 0), file.with_name("empty.parquet"))
    assert bring(home, "w", LENGTHS).version == bring(home, "w", LENGTHS).version
    assert opened(home, "w", LENGTHS).count_rows() == 1


def test_files_and_batches_of_any_size_give_the_same_table(home, monkeypatch):
    for day in range(5):
        store(home, *(trajectory(f"{day}{number}", hours=24 * day) for number in range(7)))
    expected = content(bring(home, "w", LENGTHS))
    monkeypatch.setattr(derivation, "BATCH_BYTES", 1)
    monkeypatch.setattr(derived, "GROUP_BYTES", 1)
    dataset = remake(home, "w", LENGTHS)
    assert content(dataset) == expected
    assert len(dataset.get_fragments()) == 5


def test_compact_merges_fragments_and_drops_old_versions(home, monkeypatch):
    monkeypatch.setattr(derived, "GROUP_BYTES", 1)
    for day in range(3):
        store(home, trajectory(f"{day}", hours=24 * day))
    expected = content(bring(home, "w", LENGTHS))
    assert compact(home, "w", LENGTHS, timedelta(days=1)) == 0
    assert content(opened(home, "w", LENGTHS)) == expected
    assert compact(home, "w", LENGTHS, timedelta(0)) > 0
    dataset = bring(home, "w", LENGTHS)
    assert content(dataset) == expected
    assert (len(dataset.get_fragments()), len(dataset.versions()), leftovers(home)) == (1, 1, set())


def test_purge_leaves_no_byte_of_a_file(home):
    store(home, trajectory("a", task="Jane"))
    store(home, trajectory("b", hours=24))
    names_of = Derivation(
        name="names",
        recipe="1",
        columns=("task_id",),
        schema=pa.schema([("task_id", pa.string())]),
        compute=lambda t: t,
    )
    path = derived.folder(home, "w", names_of)
    bring(home, "w", names_of)
    [first, _] = names(home)
    purge(path, [first])
    assert opened(home, "w", names_of).to_table()["id"].to_pylist() == ["b"]
    assert not [file for file in path.rglob("*") if file.is_file() and b"Jane" in file.read_bytes()]
    purge(path, [first])
    assert bring(home, "w", names_of).count_rows() == 2


def test_a_damaged_table_goes_whole_when_it_is_purged(home):
    store(home, trajectory("a"))
    bring(home, "w", LENGTHS)
    for file in derived.folder(home, "w", LENGTHS).glob("data/*"):
        file.write_bytes(b"damaged")
    purge(derived.folder(home, "w", LENGTHS), names(home))
    assert not derived.folder(home, "w", LENGTHS).exists()
    assert bring(home, "w", LENGTHS).count_rows() == 1


def test_compact_takes_deleted_rows_off_the_disk(home):
    store(home, trajectory("a"))
    store(home, *(trajectory(f"b{number}", hours=24) for number in range(200)))
    bring(home, "w", LENGTHS)
    warehouse.files(home.captures, "w")[0].unlink()
    assert [fragment.num_deletions for fragment in bring(home, "w", LENGTHS).get_fragments()] == [1]
    compact(home, "w", LENGTHS, timedelta(0))
    dataset = opened(home, "w", LENGTHS)
    assert [(f.num_deletions, f.physical_rows) for f in dataset.get_fragments()] == [(0, 200)]
    assert leftovers(home) == set()


def test_two_at_once_end_in_one_table(home):
    for day in range(4):
        store(home, trajectory(f"{day}", hours=24 * day))
    threads = [threading.Thread(target=bring, args=(home, "w", LENGTHS)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row["id"] for row in content(opened(home, "w", LENGTHS))] == ["0", "1", "2", "3"]


KILLED = """
import os, signal, sys
from pathlib import Path
from flywheel.curate import derivation, derived
from flywheel.settings import Home
from flywheel_tests.curate.test_derived import LENGTHS, lengths
import msgspec

home = Home(Path(sys.argv[1]))

def dying(rows):
    if "{row}" in rows["task_id"].to_pylist():
        left = derived.folder(home, "w", LENGTHS) / "data" / "left.lance"
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"as a long write would have left it")
        os.kill(os.getpid(), signal.SIGKILL)
    return lengths(rows)

derived.GROUP_BYTES = 1
derivation.BATCH_BYTES = 1
derived.bring(home, "w", msgspec.structs.replace(LENGTHS, compute=dying))
"""


@pytest.mark.parametrize("row", ["00", "11", "30"])
def test_a_kill_leaves_whole_files_and_the_next_run_ends_in_the_same_table(home, row):
    for day in range(4):
        store(home, *(trajectory(f"{day}{n}", hours=24 * day, task=f"{day}{n}") for n in range(2)))
    killed = subprocess.run([sys.executable, "-c", KILLED.format(row=row), str(home.root)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert opened(home, "w", LENGTHS).count_rows() == 2 * int(row[0])
    assert "left.lance" in leftovers(home)
    assert [row["id"] for row in content(bring(home, "w", LENGTHS))] == [f"{d}{n}" for d in range(4) for n in range(2)]
    assert leftovers(home) == set()


def test_a_first_write_that_died_before_its_commit_is_begun_anew(home):
    store(home, trajectory("a"))
    left = derived.folder(home, "w", LENGTHS) / "data" / "left.lance"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"torn")
    assert bring(home, "w", LENGTHS).count_rows() == 1
    assert leftovers(home) == set()


FULL = """
import resource, sys
from pathlib import Path
from flywheel.curate.derived import bring
from flywheel.settings import Home
from flywheel_tests.curate.test_derived import LENGTHS

home = Home(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
try:
    bring(home, "w", LENGTHS)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_disk_that_takes_no_more_is_said_and_leaves_the_table_as_it_was(home):
    bring(home, "w", LENGTHS)
    store(home, *(trajectory(f"{number}") for number in range(50)))
    left = subprocess.run([sys.executable, "-c", FULL, str(home.root)], capture_output=True, text=True)
    assert "FlywheelError" in left.stdout
    assert "could not be written" in left.stdout
    assert opened(home, "w", LENGTHS).count_rows() == 0
    assert bring(home, "w", LENGTHS).count_rows() == 50
    assert leftovers(home) == set()


def data_file(home):
    (file,) = (derived.folder(home, "w", LENGTHS) / "data").iterdir()
    return file


@pytest.mark.parametrize("harm", [os.unlink, lambda file: os.truncate(file, 40)], ids=["missing", "truncated"])
def test_damage_is_said_and_mended(home, harm):
    store(home, trajectory("a"))
    expected = content(bring(home, "w", LENGTHS))
    harm(data_file(home))
    with pytest.raises(FlywheelError, match=r"missing or damaged .*corpus rebuild"):
        bring(home, "w", LENGTHS)
    assert content(remake(home, "w", LENGTHS)) == expected


def test_a_manifest_that_cannot_be_read_is_damage_too(home):
    bring(home, "w", LENGTHS)
    (manifest,) = (derived.folder(home, "w", LENGTHS) / "_versions").glob("*.manifest")
    os.truncate(manifest, 7)
    with pytest.raises(FlywheelError, match="missing or damaged"):
        opened(home, "w", LENGTHS)
    with pytest.raises(FlywheelError, match="missing or damaged"):
        bring(home, "w", LENGTHS)
    assert remake(home, "w", LENGTHS).count_rows() == 0


def test_a_captures_file_that_cannot_be_read_is_named(home):
    store(home, trajectory("a"))
    (file,) = warehouse.files(home.captures, "w")
    os.truncate(file, 100)
    with pytest.raises(FlywheelError, match=f"{file.name} cannot be read"):
        bring(home, "w", LENGTHS)


def test_a_failing_computation_is_named_and_leaves_nothing(home):
    def failing(rows: pa.Table) -> pa.Table:
        raise KeyError("no such word")

    store(home, trajectory("a"))
    broken = Derivation(name="lengths", recipe="1", columns=("id",), schema=LENGTHS.schema, compute=failing)
    with pytest.raises(FlywheelError, match=r"'lengths' cannot be derived from .*no such word"):
        bring(home, "w", broken)
    assert bring(home, "w", LENGTHS).count_rows() == 1
    assert leftovers(home) == set()


def test_an_interrupt_is_passed_on(home):
    def interrupted(done, total):
        raise KeyboardInterrupt

    store(home, trajectory("a"))
    with pytest.raises(KeyboardInterrupt):
        bring(home, "w", LENGTHS, progress=interrupted)
    assert opened(home, "w", LENGTHS).count_rows() == 0
    assert bring(home, "w", LENGTHS).count_rows() == 1


def test_a_computation_owes_a_row_for_each_row(home):
    store(home, trajectory("a"), trajectory("b"))
    short = Derivation(
        name="short",
        recipe="1",
        columns=("id",),
        schema=pa.schema([("id2", pa.string())]),
        compute=lambda rows: pa.table({"id2": rows["id"][:1]}),
    )
    with pytest.raises(FlywheelError, match="1 rows for 2"):
        bring(home, "w", short)
