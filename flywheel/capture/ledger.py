"""The ledger by hand: one outcome of a stored trajectory, told by a person or a script."""

from __future__ import annotations

from datetime import datetime

from flywheel.capture import workspaces
from flywheel.capture.arrivals import Arrivals
from flywheel.capture.recorder import utc_now
from flywheel.capture.redact import Redactor
from flywheel.capture.validity import checked
from flywheel.schema import FlywheelError, Outcome
from flywheel.settings import Home


def tell(
    home: Home,
    workspace: str,
    trajectory_id: str,
    signal: str,
    value: float,
    *,
    source: str = "person",
    observed_at: datetime | None = None,
    step_index: int | None = None,
    comment: str = "",
    now: datetime | None = None,
) -> Outcome:
    """Append an outcome to the ledger; an error where the workspace has no such trajectory stored any more."""
    workspaces.require(home, workspace)
    now = now or utc_now()
    arrivals = Arrivals(home, workspace)
    with arrivals.locked():
        if arrivals.erased([trajectory_id]):
            raise FlywheelError(
                f"trajectory {trajectory_id!r} of workspace {workspace!r} was erased; nothing more is kept"
            )
        if arrivals.new_trajectories([trajectory_id]):
            raise FlywheelError(
                f"workspace {workspace!r} has no stored trajectory {trajectory_id!r}; what a recorder wrote is stored "
                f"by: flywheel settle --workspace {workspace}"
            )
        outcome = Outcome(
            workspace=workspace,
            trajectory_id=trajectory_id,
            signal=signal,
            value=value,
            source=source,
            step_index=step_index,
            observed_at=observed_at or now,
            arrived_at=arrivals.moment(now, now),
            comment=comment,
        )
        outcome = Redactor().outcome(checked(outcome))
        arrivals.add_outcomes([outcome])
    return outcome
