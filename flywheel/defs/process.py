"""A stage in a process of its own: started by Dagster through Pipes, or by hand with the same words.

    python -m flywheel.defs.process dpo v1-20261109T000000Z

Torch stays out of the orchestrator, memory is given back at the end, and the process can be killed.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import dagster as dg
from dagster_pipes import PipesContext, open_dagster_pipes

from flywheel import settings
from flywheel.cli import output
from flywheel.defs import metadata
from flywheel.schema import FlywheelError
from flywheel.wheel import config, stages, versions


def run(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient, stage: str) -> dg.MaterializeResult:
    """Run a stage for the version of this partition and return what it reported.

    A process that ends well without a report is an error, not a success.
    """
    key = context.partition_key
    completed = pipes.run(context=context, command=[sys.executable, "-m", "flywheel.defs.process", stage, key])
    return completed.get_materialize_result(implicit_materialization=False)


def main(stage: str, key: str) -> None:
    """Run one stage and report its facts."""
    output.narrate()
    home = settings.home()
    try:
        with open_dagster_pipes() as pipes:
            if isinstance(pipes, PipesContext):  # by hand, it is a stand-in
                threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
            facts = stages.run(stage, home, config.load(home), versions.parse(key))
            pipes.report_asset_materialization(
                metadata=metadata.over_pipes(facts), data_version=facts.digest or None, asset_key=stage
            )
    except FlywheelError as error:
        output.fail(str(error))
        sys.exit(1)


def _end_with(parent: int) -> None:
    """End at once when the orchestrator that started this process has been killed: it will start the stage again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
