"""Train: policies of this version, each trained in a process of its own."""

import dagster as dg

from flywheel.defs import process
from flywheel.defs.capture import OWNERS
from flywheel.defs.corpus import corpus
from flywheel.defs.partitions import versions

KINDS = {"torch", "huggingface"}


@dg.asset(partitions_def=versions, deps=[corpus], group_name="train", kinds=KINDS, owners=OWNERS)
def sft(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
    """A policy that imitates the corpus version: supervised fine-tuning on what successful agents wrote."""
    return process.run(context, pipes, "sft")


@dg.asset(partitions_def=versions, deps=[sft, "pairs"], group_name="train", kinds=KINDS, owners=OWNERS)
def dpo(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
    """The candidate: direct preference optimisation on the step pairs, pooled over the turns so far."""
    return process.run(context, pipes, "dpo")


@dg.asset(partitions_def=versions, deps=[sft, "trees"], group_name="train", kinds=KINDS, owners=OWNERS)
def rejection_sampling(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
    """A control: more supervised fine-tuning, on the successful paths of the same trees."""
    return process.run(context, pipes, "rejection_sampling")
