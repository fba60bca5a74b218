"""The stages of one version, in the order of a turn; each gives the facts of what it made or found made."""

from __future__ import annotations

from collections.abc import Callable

from flywheel import artifacts
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.wheel import judging, learning, versioning
from flywheel.wheel.config import WheelConfig
from flywheel.wheel.facts import Facts
from flywheel.wheel.versions import Version

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
    """Run one stage by name; those before it must have been run. What killed runs left half written goes first.

    Raises:
        FlywheelError: when there is no such stage.
    """
    if stage not in TURN:
        raise FlywheelError(f"there is no stage {stage!r}; there are: {', '.join(TURN)}")
    artifacts.sweep(home.root)
    return TURN[stage](home, config, version)
