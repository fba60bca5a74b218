"""Forgetting a person: nothing of her is left anywhere, all else stays, and a kill at any moment changes nothing."""

import math
import random
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel import artifacts, warehouse
from flywheel.capture import workspaces
from flywheel.capture.erasing.erasure import records, unfinished
from flywheel.capture.erasing.traces import Asked
from flywheel.capture.settling.settle import settle
from flywheel.corpus.manifest import versions
from flywheel.corpus.verify import verify
from flywheel.release.descent import marks
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES, FlywheelError
from flywheel.settings import Home
from flywheel.wheel.forget import finish, forget, look
from flywheel_tests import warm
from flywheel_tests.corpus.conftest import WEDNESDAY
from flywheel_tests.corpus.traces import holding
from flywheel_tests.wheel.forgotten import ASKED, KEY, fill, forgets, state

LATER = WEDNESDAY + timedelta(days=1)
KILLS = 25


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A data folder with a person in all its places."""
    home = Home(tmp_path_factory.mktemp("forget") / "data")
    fill(home)
    return home


@pytest.fixture(scope="module")
def forgotten(filled: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same after she was forgotten. It lies at a path as long as that of `filled`, which lineages name."""
    return again(filled, tmp_path_factory.mktemp("done") / "data")


def copied(filled: Home, place: Path) -> Home:
    """A copy at another place; lineages name files by their whole path."""
    shutil.copytree(filled.root, place)
    for path in place.glob("policies/*/lineage.json"):
        path.write_text(path.read_text().replace(str(filled.root), str(place)))
    return Home(place)


def again(filled: Home, place: Path) -> Home:
    home = copied(filled, place)
    forget(home, ASKED, now=LATER)
    return home


def test_looking_changes_nothing(filled):
    before = holding(filled)
    [(name, traces)] = look(filled, ASKED).items()
    assert (name, traces.ids) == ("support", ["t003", "t007", "t011", "t020"])
    assert traces.counts == {
        "trajectories": 4,
        "captured rows": 3,
        "outcomes": 4,
        "journal lines": 1,
        "quarantined": 1,
    }
    assert holding(filled) == before and len(before) > 10
    assert records(filled) == []


def test_nothing_of_her_is_left(forgotten):
    assert holding(forgotten) == []


def test_the_record_tells_it_all_and_names_nobody(forgotten):
    [record] = records(forgotten)
    assert [(a.ref, a.candidates, a.successor) for a in record.versions] == [
        ("other@v1", 3, "other@v2"),
        ("support@v1", 3, "support@v4"),
        ("support@v2", 3, "support@v4"),
        ("support@v3", 3, "support@v5"),
    ]
    assert [(m.kind, m.id, m.through, m.serves) for m in record.marked] == [
        ("policy", "sft-1", "support@v1", False),
        ("trees", KEY, "policy sft-1", False),
        ("pairs", KEY, f"trees {KEY}", False),
        ("policy", "dpo-1", "policy sft-1", True),
    ]
    assert record.cleared == {
        f"forthcoming/{KEY}.parquet": 1,
        f"pairs/{KEY}": 1,
        "reports/one/report.md": 2,
        f"trees/{KEY}": 1,
    }
    assert (record.done_at, record.left, record.subjects) == (LATER, (), ())


def test_what_came_of_it_is_marked_and_the_rest_is_not(forgotten):
    [mark] = marks(forgotten.policies / "sft-1")
    assert mark.through == "support@v1" and mark.rows > 0 and "erased since, on 2026-11-05" in str(mark)
    assert marks(forgotten.policies / "dpo-1") and marks(forgotten.pairs / KEY) and marks(forgotten.trees / KEY)
    assert marks(forgotten.policies / "sft-other") == []


def test_pairs_and_trees_that_quote_her_are_dropped_and_counted(forgotten):
    told = state(forgotten)
    assert [row["pair_id"] for row in told[f"pairs/{KEY}/pairs.parquet"]] == ["tree-b"]
    points = told[f"pairs/{KEY}/branches.parquet"]
    assert [(row["pair_id"], row["reason"], row["chosen"]) for row in points] == [
        ("tree-a", "erased", None),
        ("tree-b", "kept", "a"),
    ]
    about = told[f"pairs/{KEY}/manifest.json"]
    assert (about["pairs"], about["branch_points"], about["reasons"]) == (1, 2, {"erased": 1, "kept": 1})
    assert [row["tree_id"] for row in told[f"trees/{KEY}/trees.parquet"]] == ["tree-b"]
    assert [row["trajectory_id"] for row in told[f"forthcoming/{KEY}.parquet"]] == ["t002"]
    assert told["report"] == "It said: Hello [erased], [erased] and all."


def test_every_version_verifies_and_others_journals_settle(forgotten, tmp_path):
    for name in ("support", "other"):
        for version in versions(forgotten, name):
            assert verify(forgotten, name, version) == []
    home = copied(forgotten, tmp_path / "data")
    settled = settle(home, "support", LATER)
    assert (settled.trajectories, settled.erased) == (1, 0)


def test_what_is_nowhere_or_was_erased_before_is_told(forgotten):
    assert look(forgotten, ASKED) == {} and forget(forgotten, ASKED) == []
    with pytest.raises(FlywheelError, match="'t003' of workspace 'support' was erased before; nothing was changed"):
        forget(forgotten, Asked(trajectories=("t000", "t003")))
    with pytest.raises(FlywheelError, match="'t999' is stored nowhere"):
        look(forgotten, Asked(trajectories=("t999",)))
    with pytest.raises(FlywheelError, match="write it without the texts"):
        forget(forgotten, ASKED, because="Xanthippe Quillfeather wrote on Monday")
    with pytest.raises(FlywheelError, match="say whom or what to forget"):
        look(forgotten, Asked())


def test_others_go_on_recording_meanwhile(home: Home):
    workspaces.create(home, "desk")
    command = [sys.executable, "-m", "flywheel_tests.capture.writer", str(home.root), "w"]
    acknowledged: list[str] = []
    gone: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            id, what = line.split()
            acknowledged += [id] if what == "end" else []
            if what == "end" and len(acknowledged) in (3, 20, 40):
                # The last is in its journal alone, the one before it perhaps settled.
                forget(home, Asked(trajectories=tuple(acknowledged[-2:])))
                gone += acknowledged[-2:]
                settle(home, "desk", datetime.now(UTC))
            if len(acknowledged) == 60:
                break
        process.kill()
        acknowledged += [line.split()[0] for line in process.stdout if line.endswith(" end\n")]
    settle(home, "desk", datetime.now(UTC) + timedelta(days=1))
    stored = warehouse.read(home.captures, TRAJECTORIES)["id"].to_pylist()
    assert set(acknowledged) - set(stored) == set(gone)
    assert len(stored) == len(set(stored)) and not set(stored) & set(gone)
    assert not {*warehouse.read(home.outcomes, OUTCOMES)["trajectory_id"].to_pylist()} & set(gone)
    assert warehouse.read(home.quarantine, QUARANTINE).num_rows <= 1  # the line that the kill may have cut


@pytest.mark.slow
def test_kills_at_any_moment_leave_no_trace(filled: Home, tmp_path: Path, monkeypatch):
    undisturbed = again(filled, tmp_path / "undisturbed")
    expected = state(undisturbed)
    # What a killed process was writing is nobody's: none of it has to be waited for.
    monkeypatch.setattr(artifacts, "FRESH", 0.0)
    rng = random.Random(0)
    seconds = killed_after(copied(filled, tmp_path / "timed"), 60)
    interrupted = 0
    for number in range(KILLS):
        home = copied(filled, tmp_path / f"kill-{number}")
        # As long as the quickest that came to its end, however busy the machine was when the first was timed.
        seconds = min(seconds, killed_after(home, rng.uniform(0, seconds)))
        interrupted += bool(unfinished(home))
        if not records(home):
            forget(home, ASKED, now=LATER)  # killed before it was written down: nothing has happened
        finish(home, LATER)
        assert state(home) == expected, number
        assert holding(home) == [], number
        for name in ("support", "other"):
            assert verify(home, name, rng.choice(versions(home, name))) == []
        shutil.rmtree(home.root)
    assert interrupted > KILLS // 5


def killed_after(home: Home, seconds: float) -> float:
    """Forget in a process of its own, killed so many seconds after its work began; how long it took, had it ended."""
    process, heard = warm.started(forgets, home.root)
    assert heard.recv() == "begins"
    began = time.monotonic()
    process.join(seconds)
    took = time.monotonic() - began
    ended = process.exitcode == 0
    warm.killed(process, heard)
    return took if ended else math.inf
