"""A snapshot is a function of spec and as-of time: order, files, machines and crashes leave no trace in it."""

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import artifacts
from flywheel.corpus import store
from flywheel.corpus.decisions import decisions
from flywheel.corpus.manifest import folder, manifest, versions
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.snapshot import snapshot
from flywheel.corpus.verify import verify
from flywheel.curate import derived, prepared
from flywheel.curate.spec import Spec
from flywheel.schema import TRAJECTORIES, FlywheelError, trajectory_of
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write


def test_a_snapshot_holds_every_candidate_with_its_reason(week):
    made = snapshot(week, "support", SPEC, MONDAY)
    assert (made.version, made.parent, made.created, made.candidates) == (1, None, True, 12)
    assert sum(made.reasons.values()) == 12
    assert made.rows == made.reasons["kept"] + made.reasons["held out"] == sum(made.splits.values())
    assert made.recipe["filter"] == "reward > 0"
    decided = decisions(week, made).to_pylist()
    out = {d["trajectory_id"]: d["reason"] for d in decided if not d["kept"]}
    assert all(reason == "filtered" for reason in out.values())


def test_rows_are_the_captured_records_with_their_verdict(week):
    snapshot(week, "support", SPEC, MONDAY)
    rows = store.rows(week, "support", 1)
    assert rows.schema.equals(store.ROWS)
    assert rows.column_names[: len(TRAJECTORIES)] == TRAJECTORIES.names
    assert rows["id"].to_pylist() == sorted(rows["id"].to_pylist())
    for row in rows.to_pylist():
        assert trajectory_of(row) == trajectory(int(row["id"][1:]))
    train, heldout = store.rows(week, "support", 1, "train"), store.rows(week, "support", 1, "heldout")
    assert train.num_rows + heldout.num_rows == rows.num_rows
    assert set(train["reward"].to_pylist()) == {1.0}
    assert store.rows(week, "support", 1, "train", ["id", "reward"]).column_names == ["id", "reward"]


def test_asked_again_it_is_the_same_version(week):
    first = snapshot(week, "support", SPEC, MONDAY)
    again = snapshot(week, "support", SPEC, MONDAY)
    assert (again.version, again.digest, again.created) == (1, first.digest, False)
    assert again.created_at == first.created_at


def test_a_late_outcome_makes_a_version_and_leaves_the_old_one_as_it_was(week):
    first = snapshot(week, "support", SPEC, MONDAY)
    before = store.rows(week, "support", 1)
    [row] = before.filter(before["split"].is_valid()).slice(0, 1).to_pylist()
    write(week, outcomes=[verdict(int(row["id"][1:]), 0.0, "reopened", TUESDAY)])
    second = snapshot(week, "support", SPEC, TUESDAY)
    assert (second.version, second.parent) == (2, 1)
    assert second.digest != first.digest
    assert manifest(week, "support", 1).digest == first.digest
    assert store.rows(week, "support", 1).equals(before)
    assert verify(week, "support", 1) == verify(week, "support", 2) == []
    assert rebuild(week, "support", 1).same


def test_what_arrives_after_the_as_of_time_is_not_seen(week):
    first = snapshot(week, "support", SPEC, MONDAY)
    write(week, [trajectory(20, TUESDAY)], [verdict(20, 1.0, arrived_at=TUESDAY)])
    assert not snapshot(week, "support", SPEC, MONDAY).created
    assert snapshot(week, "support", SPEC, TUESDAY).candidates == first.candidates + 1


def test_a_version_of_no_rows_is_a_version(home):
    write(home, [trajectory(1)])
    made = snapshot(home, "empty", SPEC, MONDAY)
    assert (made.rows, made.reasons) == (0, {"unlabelled": 1})
    assert store.rows(home, "empty").num_rows == 0
    assert verify(home, "empty") == []


def test_a_number_can_be_asked_for_and_never_changes_its_meaning(week):
    third = snapshot(week, "support", SPEC, MONDAY, version=3)
    assert (third.version, third.parent) == (3, None)
    assert not snapshot(week, "support", SPEC, MONDAY, version=3).created
    with pytest.raises(FlywheelError, match="support@v3 is another snapshot"):
        snapshot(week, "support", SPEC, TUESDAY, version=3)
    assert snapshot(week, "support", SPEC, TUESDAY).version == 4


def test_unknown_names_say_what_is_there(week):
    with pytest.raises(FlywheelError, match="flywheel workspace create sales"):
        snapshot(week, "support", Spec(workspace="sales"), MONDAY)
    with pytest.raises(FlywheelError, match="there is no corpus 'support'"):
        store.rows(week, "support")
    snapshot(week, "support", SPEC, MONDAY)
    with pytest.raises(FlywheelError, match="has no v9"):
        store.rows(week, "support", 9)
    with pytest.raises(FlywheelError, match="no time zone"):
        snapshot(week, "support", SPEC, MONDAY.replace(tzinfo=None))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)), cuts=st.lists(st.integers(1, 11), max_size=4), late=st.booleans())
def test_any_order_of_arrival_and_any_split_over_files_gives_the_same_digest(order, cuts, late):
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        edges = [0, *sorted(set(cuts)), 12]
        for start, end in itertools.pairwise(edges):
            part = order[start:end]
            facts = [verdict(n, float(n not in (3, 7))) for n in part]
            write(home, outcomes=facts if late else ())
            write(home, [trajectory(n) for n in part], () if late else facts)
            # What is written twice is counted once.
            write(home, [trajectory(part[0])], facts[:1])
        made = snapshot(home, "support", SPEC, WEDNESDAY)
        assert made.digest == "73e646c3ef2f9263fe2fdf61ba8c6097d622f459c6d6fcc8c4dd9dfbd81f4932"
        assert verify(home, "support") == []


def content(home: Home) -> Path:
    """Where the content of all versions lies."""
    return derived.folder(home, "support", prepared.ROWS)


def test_damaged_content_is_refused_and_made_again_from_the_captures(week):
    made = snapshot(week, "support", SPEC, MONDAY)
    snapshot(week, "support", SPEC, TUESDAY, version=2)
    before = store.rows(week, "support", 2)
    for data in content(week).glob("data/*.lance"):
        data.write_bytes(b"damaged")
    with pytest.raises(FlywheelError, match="flywheel corpus rebuild"):
        store.rows(week, "support", 1)
    assert "missing or damaged" in verify(week, "support", 1)[0]
    result = rebuild(week, "support", 1)
    assert (result.same, result.restored, result.digest) == (True, ("content",), made.digest)
    assert verify(week, "support", 1) == verify(week, "support", 2) == []
    assert store.rows(week, "support", 2).equals(before)


def test_content_and_decisions_that_are_gone_are_made_again(week):
    snapshot(week, "support", SPEC, MONDAY)
    write(week, outcomes=[verdict(1, 0.0, "reopened", TUESDAY)])
    snapshot(week, "support", SPEC, TUESDAY)
    before = [store.rows(week, "support", version) for version in (1, 2)]
    import shutil

    shutil.rmtree(week.derived)
    for path in (folder(week, "support") / "decisions").iterdir():
        path.unlink()
    with pytest.raises(FlywheelError, match="flywheel corpus rebuild support@v2"):
        store.rows(week, "support", 2)
    assert rebuild(week, "support", 2, raw=True).restored == ("content", "decisions")
    with pytest.raises(FlywheelError, match="flywheel corpus rebuild support@v1"):
        store.rows(week, "support", 1)
    assert rebuild(week, "support", 1).restored == ("decisions",)
    assert verify(week, "support", 1) == verify(week, "support", 2) == []
    assert [store.rows(week, "support", version) for version in (1, 2)] == before


def test_a_version_that_captures_no_longer_give_is_told_row_by_row(week):
    made = snapshot(week, "support", SPEC, MONDAY)
    before = store.rows(week, "support", 1)
    lost = before["id"][0].as_py()
    # A fact with an arrival in the past: somebody edited history.
    write(week, outcomes=[verdict(int(lost[1:]), 0.0, "reopened", MONDAY)])
    result = rebuild(week, "support", 1)
    assert (result.same, result.expected, result.restored) == (False, made.digest, ())
    assert [(d["trajectory_id"], d["change"]) for d in result.differences] in ([(lost, "lost")], [(lost, "changed")])
    assert store.rows(week, "support", 1).equals(before)


def test_what_an_unfinished_version_left_behind_is_cleared(week, monkeypatch):
    snapshot(week, "support", SPEC, MONDAY)

    def torn(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(artifacts, "write_json", torn)
        snapshot(week, "support", SPEC, TUESDAY)
    assert versions(week, "support") == [1]
    assert snapshot(week, "support", SPEC, WEDNESDAY).version == 2
    assert verify(week, "support", 2) == []


SCRIPT = """
import sys
from datetime import datetime
from pathlib import Path
from flywheel.corpus.snapshot import snapshot
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import SPEC
print("ready", flush=True)
for moment in sys.argv[2:]:
    snapshot(Home(Path(sys.argv[1])), "support", SPEC, datetime.fromisoformat(moment))
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_is_the_same_version(week, tmp_path):
    days = [MONDAY + timedelta(days=n) for n in range(3)]
    for day in days[1:]:
        write(week, outcomes=[verdict(1, 1.0, "reopened", day)])
    expected = Home(tmp_path / "expected")
    subprocess.run(["cp", "-r", week.root, expected.root], check=True)
    digests = [snapshot(expected, "support", SPEC, day).digest for day in days]
    command = [sys.executable, "-c", SCRIPT, str(week.root), *(day.isoformat() for day in days)]
    chance = random.Random(7)
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.8))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for version in versions(week, "support"):
            assert verify(week, "support", version) == []
    for version, day in enumerate(days, 1):
        snapshot(week, "support", SPEC, day, version=version)
    assert versions(week, "support") == [1, 2, 3]
    assert [manifest(week, "support", v).digest for v in (1, 2, 3)] == digests
    assert all(verify(week, "support", v) == [] for v in (1, 2, 3))


def test_two_at_once_take_turns(week):
    days = [MONDAY + timedelta(hours=n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda day: snapshot(week, "support", SPEC, day).version, days))
    assert sorted(made) == [1, 2, 3, 4] == versions(week, "support")
    assert all(verify(week, "support", v) == [] for v in made)
