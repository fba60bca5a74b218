"""Every format that what was captured goes out in: of trajectories one by one, or of the tries of a task together."""

from __future__ import annotations

import msgspec

from flywheel.export.budget import Budget
from flywheel.export.choose import Chosen
from flywheel.export.source import Source
from flywheel.export.stepwise import DPO, STEP_RECORD
from flywheel.export.tasks import Tasks
from flywheel.export.trajectories import Trajectories
from flywheel.preferences.gates import Gates
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel.views.formats import FORMATS

NAMES = (*FORMATS, DPO, STEP_RECORD)


def checked(name: str) -> str:
    """The name of a format.

    Raises:
        FlywheelError: when there is none of it.
    """
    if name not in NAMES:
        raise FlywheelError(f"there is no format {name!r}; there are: {', '.join(NAMES)}")
    return name


def gates(margin: float | None, probability: float | None) -> Gates | None:
    """The gates of preference pairs with what is given of them; None where nothing is."""
    if margin is None and probability is None:
        return None
    made = Gates() if margin is None else Gates(margin=margin)
    return made if probability is None else msgspec.structs.replace(made, probability=probability)


def source(
    home: Home, chosen: Chosen, name: str, *, budget: Budget | None = None, gates: Gates | None = None
) -> Source:
    """What was chosen as rows of a format; `gates` are those of preference pairs.

    Raises:
        FlywheelError: when there is no such format, or a budget or gates are none of its.
    """
    if gates is not None and checked(name) != DPO:
        raise FlywheelError(f"margin and probability choose pairs: they are for {DPO}, not for {name}")
    if name not in FORMATS:
        if budget is not None:
            raise FlywheelError(f"a budget of tokens shortens trajectories one by one; {name} compares whole ones")
        return Tasks(home, checked(name), chosen, gates)
    return Trajectories(home, chosen, FORMATS[name], budget)
