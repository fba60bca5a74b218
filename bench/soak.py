"""Two writers and a reader on one data folder for some minutes: no lock error, no duplicate, no torn read.

python -m bench.soak [--minutes 10] [--seed 0]

Each writer records episodes and outcomes, settles them, and makes versions of one corpus, one on `main`, one on a
branch. The reader reads whole versions, verifies them, streams them and asks SQL meanwhile. At the end every version is
verified again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench import measure
from flywheel.capture import workspaces
from flywheel.capture.recorders.recorder import Recorder
from flywheel.capture.settling.settle import settle
from flywheel.corpus import query, store
from flywheel.corpus.manifest import manifest, versions
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.streaming.stream import stream
from flywheel.corpus.verify import verify
from flywheel.curate.spec import Spec
from flywheel.schema import FlywheelError
from flywheel.settings import Home

CORPUS = "soak"
SPEC = Spec(workspace="soak", filter="reward > 0")
BRANCH = "other"


def write(home: Home, line: str, until: float, seed: int) -> dict[str, int]:
    """Record, settle and make versions on one line of the corpus; what was done, by name."""
    chance = random.Random(seed)
    done = {"episodes": 0, "versions": 0}
    recorder = Recorder(home, SPEC.workspace, agent=f"writer-{seed}")
    while time.time() < until:
        for _ in range(chance.randrange(1, 6)):
            with recorder.trajectory(task_id=f"{seed}-{done['episodes']}", task_type="desk") as episode:
                episode.step(role="user", content=f"Order {chance.random()} of writer {seed}, please.")
                episode.step(role="assistant", content=f"Order {chance.random()} is done.")
                episode.outcome("reward", float(chance.random() < 0.7), source="checker")
            done["episodes"] += 1
        # Closed up to then: nothing that comes later can have arrived before, so the version stands for ever.
        moment = datetime.now(UTC)
        settle(home, SPEC.workspace, now=moment)
        done["versions"] += snapshot(home, CORPUS, SPEC, moment, branch=line).created
    recorder.close()
    settle(home, SPEC.workspace, now=datetime.now(UTC))
    return done


def read(home: Home, _: str, until: float, seed: int) -> dict[str, int]:
    """Read whatever versions there are, in every way there is."""
    chance = random.Random(seed)
    done = {"reads": 0, "rows": 0}
    while time.time() < until:
        version = chance.choice(versions(home, CORPUS))
        of = manifest(home, CORPUS, version)
        how = chance.randrange(4)
        if how == 0:
            rows = store.rows(home, CORPUS, version)
            assert rows.num_rows == of.rows == len(set(rows["id"].to_pylist())), f"{of.ref}: {rows.num_rows} rows"
            done["rows"] += rows.num_rows
        elif how == 1:
            assert (wrong := verify(home, CORPUS, version)) == [], wrong
        elif how == 2:
            found = [row["id"] for row in stream(home, CORPUS, version, columns=["id"], seed=seed)]
            assert len(found) == len(set(found)) == of.splits.get("train", 0), f"{of.ref}: {len(found)} streamed"
        else:
            sql = f"SELECT count(*), count(DISTINCT trajectory_id) FROM decisions WHERE version = {version}"
            [(count, distinct)] = query.query(home, sql).rows
            assert count == distinct == of.candidates, f"{of.ref}: {count} decisions of {distinct}"
        done["reads"] += 1
    return done


def _told(work: Callable[..., Any], home: Home, line: str, until: float, seed: int, to: Connection) -> None:
    try:
        to.send(work(home, line, until, seed))
    except (AssertionError, FlywheelError, OSError, RuntimeError, ValueError):
        to.send(traceback.format_exc())


def run(root: Path, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Let them work side by side, and look at all that they left; errors and duplicates raise."""
    home = Home(root)
    workspaces.create(home, SPEC.workspace)
    snapshot(home, CORPUS, SPEC, datetime.now(UTC))
    branch(home, CORPUS, BRANCH)
    until = time.time() + seconds
    processes = multiprocessing.get_context("spawn")
    workers = []
    for number, (work, line) in enumerate([(write, "main"), (write, BRANCH), (read, "")]):
        heard, told = processes.Pipe(duplex=False)
        process = processes.Process(target=_told, args=(work, home, line, until, 3 * seed + number, told))
        process.start()
        told.close()
        workers.append((process, heard))
    found = [heard.recv() for _, heard in workers]
    for process, _ in workers:
        process.join()
    if errors := [one for one in found if isinstance(one, str)]:
        raise AssertionError("\n".join(errors))
    one, other, reader = found
    for version in versions(home, CORPUS):
        assert (wrong := verify(home, CORPUS, version)) == [], wrong
    last = snapshot(home, CORPUS, SPEC, datetime.now(UTC))
    assert last.candidates == one["episodes"] + other["episodes"], "an episode was lost, or is there twice"
    return {
        "seconds": round(seconds),
        "episodes": last.candidates,
        "versions": len(versions(home, CORPUS)),
        "reads": reader["reads"],
        "rows read": reader["rows"],
        "errors": 0,
    }


def main() -> None:
    """Run it, and write what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder) / "data", 60 * options.minutes, options.seed)
    note = "Every version was verified at the end, and holds each episode once."
    measure.write("soak", [found], title="Two writers and a reader at once", note=note)


if __name__ == "__main__":
    main()
