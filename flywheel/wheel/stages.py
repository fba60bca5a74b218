"""The stages of one version, in the order of a turn; each gives the facts of what it made or found made."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.wheel import judging, learning, versioning
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.facts import Facts
from flywheel.wheel.versions import Version

log = logging.getLogger(__name__)

Stage = Callable[[Home, WheelConfig, Version], Facts]

TURN: dict[str, Stage] = {
    "corpus": versioning.corpus,
    "sft": learning.sft,
    "trees": learning.trees,
    "pairs": learning.pairs,
    "dpo": learning.dpo,
    "rejection_sampling": learning.rejection_sampling,
    "evaluation": judging.evaluation,
    "champion": judging.champion,
    "champion_episodes": judging.champion_episodes,
}


def run(stage: str, home: Home, config: WheelConfig, version: Version) -> Facts:
    """Run one stage by name; those before it must have been run.

    One process at a time is at a stage: another waits, and finds done what this one did. What killed runs left half
    written goes first.

    Raises:
        FlywheelError: when there is no such stage.
    """
    if stage not in TURN:
        raise FlywheelError(f"there is no stage {stage!r}; there are: {', '.join(TURN)}")
    with _alone(home, stage):
        artifacts.sweep(home.root)
        return TURN[stage](home, config, version)


@contextmanager
def _alone(home: Home, stage: str) -> Iterator[None]:
    """Hold a stage; a process that outlives the demo or the daemon that started it holds it until its work is done."""
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / f".{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is at %s; waiting for it", stage)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
