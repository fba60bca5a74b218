"""What one wheel turns on: its workspace, its corpus, its environments and the size of each stage."""

from __future__ import annotations

from datetime import date

import msgspec

from flywheel.schema import FlywheelError
from flywheel.settings import Home, checked_name

FILE = "wheel.toml"


class WheelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults are those of `flywheel demo`; a file `wheel.toml` in the data folder overrides them by name.

    `episodes_a_day`, `tree_tasks`, `champion_episodes`: counts over all environments. `heldout_tasks`: counts
    for each environment. `aftermath_days`: from the week's end to the next version; on the first the champion acts,
    and what it did is judged 48 hours later. Late outcomes make a version once they have
    changed the verdicts on `late_share` of the newest version's rows and none has arrived for `quiet_seconds`, or once
    the first of them has waited for `late_hours`: so many small arrivals make one version, and none waits for ever.
    """

    workspace: str = "production"
    corpus: str = "corpus"
    environments: tuple[str, ...] = ("desk", "files")
    seed: int = 0
    week_start: date = date(2026, 11, 2)
    working_days: int = 7
    aftermath_days: int = 3
    episodes_a_day: int = 700
    filter: str = "success"
    holdout_percent: int = 25
    quiet_seconds: int = 300
    late_share: float = 0.01
    late_hours: float = 24.0
    sft_steps: int = 320
    tree_tasks: int = 600
    tree_nodes: int = 40
    tree_width: int = 4
    dpo_learning_rate: float = 2e-4
    later_dpo_learning_rate: float = 5e-5
    rejection_steps: int = 160
    rejection_learning_rate: float = 5e-4
    heldout_tasks: int = 500
    temperatures: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    champion_episodes: int = 300


def load(home: Home) -> WheelConfig:
    """The configuration of a data folder.

    Raises:
        FlywheelError: when the file holds an unknown name or a value of the wrong type.
    """
    path = home.root / FILE
    if not path.exists():
        return WheelConfig()
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=WheelConfig)
    except msgspec.MsgspecError as error:
        raise FlywheelError(f"{path}: {error}. Known names: {', '.join(WheelConfig.__struct_fields__)}") from error
    checked_name(config.workspace, "workspace")
    checked_name(config.corpus, "corpus")
    return config
