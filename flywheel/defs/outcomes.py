"""Outcomes: the ledger's rows by the day we learned of them."""

import dagster as dg

from flywheel.defs import metadata
from flywheel.defs.capture import OWNERS, captures
from flywheel.defs.partitions import days
from flywheel.defs.resources import Wheel
from flywheel.schema import OUTCOMES
from flywheel.wheel import days as day_stages


@dg.asset(partitions_def=days, deps=[captures], group_name="outcomes", kinds={"parquet", "duckdb"}, owners=OWNERS)
def outcomes(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """Signals about trajectories that arrived on a day, the late ones included; only ever appended."""
    facts = day_stages.outcomes(wheel.home, wheel.config, day_stages.parse(context.partition_key))
    return dg.MaterializeResult(
        metadata={
            **metadata.of(facts),
            **metadata.column_schema(OUTCOMES),
            "dagster/partition_row_count": int(facts.counts["outcomes"]),
        },
        data_version=dg.DataVersion(facts.digest),
    )
