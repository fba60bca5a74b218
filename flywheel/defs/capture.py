"""Capture: the agents act, and what they did on a day is settled into that day's partition."""

import dagster as dg

from flywheel.defs import metadata
from flywheel.defs.partitions import days
from flywheel.defs.resources import Warehouse, Wheel
from flywheel.schema import TRAJECTORIES
from flywheel.warehouse import scan_sql
from flywheel.wheel import days as day_stages

OWNERS = ["team:flywheel"]


@dg.asset(partitions_def=days, group_name="capture", kinds={"python"}, owners=OWNERS)
def agents(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """Simulated agents of several versions at work, recorded live, with late outcomes on the day they arrive."""
    facts = day_stages.agents(wheel.home, wheel.config, day_stages.parse(context.partition_key))
    return dg.MaterializeResult(metadata=metadata.of(facts))


@dg.asset(partitions_def=days, deps=[agents], group_name="capture", kinds={"parquet"}, owners=OWNERS)
def captures(context: dg.AssetExecutionContext, wheel: Wheel, warehouse: Warehouse) -> dg.MaterializeResult:
    """Trajectories that arrived on a day: settled from the journals into immutable files."""
    facts = day_stages.captures(wheel.home, wheel.config, day_stages.parse(context.partition_key))
    with warehouse.connect() as connection:
        [(total,)] = connection.sql(
            f"SELECT count(*) FROM {scan_sql(wheel.home.captures, TRAJECTORIES, wheel.config.workspace)}"
        ).fetchall()
    return dg.MaterializeResult(
        metadata={
            **metadata.of(facts),
            **metadata.column_schema(TRAJECTORIES),
            "dagster/partition_row_count": int(facts.counts["trajectories"]),
            "dagster/row_count": total,
        },
        data_version=dg.DataVersion(facts.digest),
    )


@dg.asset_check(asset=captures, blocking=True)
def captures_schema(wheel: Wheel) -> dg.AssetCheckResult:
    """Every file of captures has the columns and types of the vocabulary."""
    found = day_stages.schema_failures(wheel.home, wheel.config)
    return dg.AssetCheckResult(passed=not found, metadata={"files": metadata.markdown_table(found)})
