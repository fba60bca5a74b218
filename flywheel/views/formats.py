"""Every format that trajectories are written in, by name."""

from __future__ import annotations

from flywheel.schema import FlywheelError
from flywheel.views.axolotl import AXOLOTL
from flywheel.views.graded import Format
from flywheel.views.hermes import HERMES
from flywheel.views.openai import OPENAI
from flywheel.views.sharegpt import SHAREGPT
from flywheel.views.steps import RAW
from flywheel.views.trl import KTO, PROMPTS, SFT

FORMATS: dict[str, Format] = {of.name: of for of in (SFT, KTO, PROMPTS, OPENAI, AXOLOTL, SHAREGPT, HERMES, RAW)}


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        FlywheelError: when there is none.
    """
    if name not in FORMATS:
        raise FlywheelError(f"there is no format {name!r} for trajectories; there are: {', '.join(FORMATS)}")
    return FORMATS[name]
