"""Partitions: days by arrival, and snapshot versions that name their as-of time."""

import dagster as dg

from flywheel.settings import home
from flywheel.wheel import config

days = dg.DailyPartitionsDefinition(start_date=config.load(home()).week_start.isoformat(), end_offset=1)
versions = dg.DynamicPartitionsDefinition(name="versions")

# A version reads every day that had arrived as of its time.
all_days = dg.AllPartitionMapping()
