"""Killed at any moment of a snapshot, a branch, a merge or a gc, a corpus is whole, and what was told stands."""

import random
import time
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pytest

from flywheel.corpus import gc, store
from flywheel.corpus.manifest import branches, manifest, tag, versions
from flywheel.corpus.merge import merge
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.verify import verify
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests import warm
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, verdict, write

KILLS = 100
FILTERS = ("reward > 0", "true", "n_steps > 3", "success AND n_steps > 3")


def work(told: Connection, root: Path, seed: int) -> None:
    """Do one thing after another to the corpus, and tell of each once it is done."""
    home, chance = Home(root), random.Random(seed)
    told.send(("begins", None, None))
    for turn in range(1000):
        at = MONDAY + timedelta(hours=seed, seconds=turn)
        spec = msgspec.structs.replace(SPEC, filter=chance.choice(FILTERS))
        name = f"b{chance.randrange(4)}"
        act = chance.choice(("arrive", "snapshot", "snapshot", "branch", "merge", "tag", "remove", "gc"))
        with suppress(FlywheelError):  # no such branch, one that is there, a conflict, a tag that holds it
            if act == "arrive":
                number = 1000 + seed * 10 + turn % 10
                write(home, [trajectory(number, at)], [verdict(number, 1.0, arrived_at=at)])
            elif act == "snapshot":
                made = snapshot(home, "support", SPEC, at, branch=chance.choice(["main", name]))
                told.send(("made", made.version, made.digest))
            elif act == "branch":
                made = branch(home, "support", name, spec)
                told.send(("made", made.version, made.digest))
            elif act == "merge":
                made = merge(home, "support", name, prefer="theirs")
                told.send(("made", made.version, made.digest))
            elif act == "tag":
                told.send(("tag", tag(home, "support", f"t{seed}", None, at).version, None))
            elif act == "remove":
                told.send(("removing", name, None))
                gc.remove_branch(home, "support", name)
            else:
                gc.collect(home, older_than=timedelta(0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_lose_nothing_that_was_told(home):
    write(home, [trajectory(n) for n in range(40)], [verdict(n, float(n % 5 > 0)) for n in range(40)])
    snapshot(home, "support", SPEC, MONDAY)
    chance = random.Random(11)
    acknowledged: dict[int, str] = {}
    removing: set[str] = set()
    for kill in range(KILLS):
        process, heard = warm.started(work, home.root, kill + 1)
        assert heard.recv()[0] == "begins"
        time.sleep(chance.uniform(0, 0.5))
        for what, which, digest in warm.killed(process, heard):
            if what == "removing":
                removing.add(which)
                gone = [v for v in acknowledged if v not in versions(home, "support")]
                acknowledged = {v: d for v, d in acknowledged.items() if v not in gone}
            else:
                acknowledged[which] = digest or manifest_digest(home, which)
        known = versions(home, "support")
        # What was in hand, and one of the others; all of them at the end.
        for version in {*known[-2:], chance.choice(known)}:
            assert verify(home, "support", version) == []
        for version, digest in acknowledged.items():
            if version in known:
                assert manifest(home, "support", version).digest == digest
            else:
                assert version in gc.retired(home, "support")
                assert gc.retired(home, "support")[version].branch in removing
    assert acknowledged
    for version in versions(home, "support"):
        assert verify(home, "support", version) == []
    # After it all the space is free: no file of decisions but those that versions read, and no old state of content.
    gc.collect(home, older_than=timedelta(0))
    read = {path for version in versions(home, "support") for path in manifest(home, "support", version).decision_files}
    assert {f"decisions/{path.name}" for path in (home.corpora / "support" / "decisions").iterdir()} == read
    assert not list(home.root.rglob("*.tmp"))
    assert gc.collect(home, older_than=timedelta(0)).bytes == 0
    made = snapshot(home, "support", SPEC, MONDAY + timedelta(days=30))
    assert store.rows(home, "support", made.version).num_rows == made.rows > 0
    assert branches(home, "support")["main"] == made.version


def manifest_digest(home: Home, version: int) -> str:
    return manifest(home, "support", version).digest
