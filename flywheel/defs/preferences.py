"""Preferences: step pairs that pass the gates."""

import dagster as dg

from flywheel.defs import metadata
from flywheel.defs.capture import OWNERS
from flywheel.defs.partitions import versions
from flywheel.defs.resources import Wheel
from flywheel.defs.rollout import trees
from flywheel.wheel import stages
from flywheel.wheel.versions import parse


@dg.asset(partitions_def=versions, deps=[trees], group_name="preferences", kinds={"parquet"}, owners=OWNERS)
def pairs(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """Preference pairs (prompt, chosen step, rejected step) from branch points whose values really differ."""
    facts = stages.run("pairs", wheel.home, wheel.config, parse(context.partition_key))
    return dg.MaterializeResult(
        metadata={**metadata.of(facts), "dagster/partition_row_count": int(facts.counts["pairs"])},
        data_version=dg.DataVersion(facts.digest),
    )
