"""A turn that is killed at twenty moments and taken up again each time ends in what an undisturbed turn made."""

import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flywheel import artifacts, warehouse
from flywheel.corpus.manifest import manifest
from flywheel.evaluate import report as reports
from flywheel.release import history
from flywheel.schema import OUTCOMES, QUARANTINE, TRAJECTORIES
from flywheel.settings import Home
from flywheel_tests import warm
from flywheel_tests.wheel import turn
from flywheel_tests.wheel.conftest import Turned

pytestmark = pytest.mark.slow

# Where to kill, in the order of the turn, so that it gets on all the same: a day or version, and a stage of it.
MOMENTS = (
    ("2026-11-02", "agents"),
    ("2026-11-02", "captures"),
    ("2026-11-03", "agents"),
    ("2026-11-04", "captures"),
    ("v1", "corpus"),
    ("v1", "corpus"),
    ("v1", "sft"),
    ("v1", "sft"),
    ("v1", "trees"),
    ("v1", "trees"),
    ("v1", "pairs"),
    ("v1", "dpo"),
    ("v1", "rejection_sampling"),
    ("v1", "evaluation"),
    ("v1", "evaluation"),
    ("v1", "champion"),
    ("v1", "champion_episodes"),
    ("2026-11-06", "agents"),
    ("v2", "corpus"),
    ("v2", "turn_report"),
)


def moments(turned: Turned, seed: int) -> list[tuple[str, float]]:
    """The line after which to kill, and how many seconds after it: anywhere within what the stage took undisturbed."""
    rng = random.Random(seed)
    keys = {f"v{number}": turn.version(turned.config, number).key for number in (1, 2)}
    found: list[tuple[str, float]] = []
    for name, stage in MOMENTS:
        key = keys.get(name, name)
        line = stage if stage == "turn_report" else f"{key} {stage}"
        # In v2 the end is near, and must not come first.
        took = 0.1 if name == "v2" else artifacts.read_json(turned.home.cycle / f"{key}.{stage}.json")["seconds"]
        found.append((line, rng.uniform(0, took)))
    return found


def killed(home: Home, line: str, delay: float) -> bool:
    """Turn the wheel in a process of its own and kill it; False when it had come to its end before that.

    Where it works faster than when it was timed, it is killed as the stage ends.
    """
    process, heard = warm.started(turn.brought, home.root)
    with suppress(EOFError):
        while heard.recv() != line:
            pass
        until = time.monotonic() + delay
        while heard.poll(max(0.0, until - time.monotonic())) and not str(heard.recv()).startswith(f"{line}:"):
            pass
    warm.killed(process, heard)
    return process.exitcode == -signal.SIGKILL


def ended(home: Home) -> dict[str, str]:
    """Turn the wheel to its end in a process of its own; the digests of all that it made."""
    process, heard = warm.started(turn.brought, home.root)
    told: Any = None
    with suppress(EOFError):
        while not isinstance(told, dict):
            told = heard.recv()
    process.join()
    assert process.exitcode == 0 and isinstance(told, dict), told
    return told


def names_below(folder: Path) -> Counter[str]:
    """How many files of each kind lie below a folder."""
    return Counter(path.suffix for path in folder.rglob("*") if path.is_file())


def test_twenty_kills_leave_no_trace(turned: Turned, tmp_path: Path):
    home = Home(tmp_path / "data")
    for line, delay in moments(turned, seed=1):
        assert killed(home, line, delay), f"the turn came to its end before it could be killed after {line!r}"
    told = ended(home)

    # The same content, made from nothing in another folder.
    assert told == turn.digests(turned.facts)
    for number in (1, 2):
        one, other = (manifest(h, turned.config.corpus, number) for h in (home, turned.home))
        assert (one.decisions_digest, one.reasons, one.splits) == (other.decisions_digest, other.reasons, other.splits)
    one, other = (reports.load(h, "latest") for h in (home, turned.home))
    assert one.success == other.success and one.tables["Gate"] == other.tables["Gate"]

    # Nothing twice.
    for root, schema in (("captures", TRAJECTORIES), ("outcomes", OUTCOMES)):
        ids = warehouse.read(home.root / root, schema)["id"].to_pylist()
        assert sorted(ids) == sorted(set(ids))
        assert set(ids) == set(warehouse.read(turned.home.root / root, schema)["id"].to_pylist())
    assert [event.kind for event in history.read(home)] == ["keep", "promote"]
    assert set(warehouse.read(home.quarantine, QUARANTINE)["error"].to_pylist()) <= {"the line was cut off"}

    # Nothing left over.
    left = [path for path in home.root.rglob("*") if artifacts.BESIDE.fullmatch(path.name) or path.suffix == ".work"]
    assert left == []
    assert not list(home.journals.glob("*/*.jsonl"))
    for folder in ("corpora", "policies", "trees", "pairs", "reports", "evaluations", "cycle", "forthcoming"):
        assert names_below(home.root / folder) == names_below(turned.home.root / folder), folder
