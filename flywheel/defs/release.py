"""Release: the champion, chosen by the gate; it acts, and is captured again."""

import dagster as dg

from flywheel.defs import metadata, process
from flywheel.defs.capture import OWNERS
from flywheel.defs.evaluate import evaluation
from flywheel.defs.partitions import versions
from flywheel.defs.resources import Wheel
from flywheel.wheel import stages, summary
from flywheel.wheel.versions import parse


@dg.asset(partitions_def=versions, deps=[evaluation], group_name="release", kinds={"python"}, owners=OWNERS)
def champion(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """The policy that serves after this version: the candidate when the gate lets it through, else as before."""
    facts = stages.run("champion", wheel.home, wheel.config, parse(context.partition_key))
    return dg.MaterializeResult(metadata=metadata.of(facts))


@dg.asset(partitions_def=versions, deps=[champion], group_name="release", kinds={"torch"}, owners=OWNERS)
def champion_episodes(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
    """The champion acts on fresh tasks through the same recorder: the next version's captures."""
    return process.run(context, pipes, "champion_episodes")


@dg.asset(
    deps=[
        dg.AssetDep(champion_episodes, partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("corpus", partition_mapping=dg.AllPartitionMapping()),
    ],
    group_name="release",
    kinds={"markdown"},
    owners=OWNERS,
)
def turn_report(wheel: Wheel) -> dg.MaterializeResult:
    """The whole turn on one page: policies, tree cost, corpus versions, and cycle time with its bottleneck."""
    return dg.MaterializeResult(metadata=metadata.of(summary.turn_report(wheel.home, wheel.config)))
