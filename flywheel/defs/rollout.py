"""Rollout: forked trees sampled from the policy that acts."""

import dagster as dg

from flywheel.defs import process
from flywheel.defs.capture import OWNERS
from flywheel.defs.partitions import versions
from flywheel.defs.train import sft


@dg.asset(partitions_def=versions, deps=[sft], group_name="rollout", kinds={"networkx", "torch"}, owners=OWNERS)
def trees(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
    """Rollout trees: at each state several sampled actions, each carried out on a fork and followed to its end."""
    return process.run(context, pipes, "trees")
