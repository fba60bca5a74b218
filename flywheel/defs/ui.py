"""The Dagster UI on loopback, with its daemon, over a data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flywheel import settings
from flywheel.cli import output
from flywheel.defs.instance import open_instance
from flywheel.schema import FlywheelError

# Dagster's remarks on its own functions, on which a reader of the terminal cannot act.
QUIET = "ignore:Function `dev_command`,ignore:Function `PipesMessageReader.expected_writer_count`"


def main(port: str) -> None:
    """Become `dagster dev` for this data folder."""
    open_instance(settings.home()).dispose()
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    if not workspace.exists():
        raise FlywheelError("workspace.yaml is not beside the package: run from a checkout of the project")
    os.environ["PYTHONWARNINGS"] = QUIET
    dagster = str(Path(sys.executable).with_name("dagster"))
    os.execv(dagster, [dagster, "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", port])  # noqa: S606 - no shell


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except FlywheelError as error:
        output.fail(str(error))
        sys.exit(1)
