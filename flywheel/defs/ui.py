"""The Dagster UI on loopback, with its daemon, over a data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flywheel import settings
from flywheel.defs.instance import open_instance
from flywheel.schema import FlywheelError


def main(port: str) -> None:
    """Become `dagster dev` for this data folder."""
    open_instance(settings.home()).dispose()
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    if not workspace.exists():
        raise FlywheelError("workspace.yaml is not beside the package: run from a checkout of the project")
    dagster = str(Path(sys.executable).with_name("dagster"))
    os.execv(dagster, [dagster, "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", port])  # noqa: S606 - no shell


if __name__ == "__main__":
    main(sys.argv[1])
