"""Resources: the data folder, its SQL, and processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from flywheel import settings
from flywheel.wheel import config


class Wheel(dg.ConfigurableResource):
    """The data folder that `FLYWHEEL_HOME` names, and the configuration in it."""

    @property
    def home(self) -> settings.Home:
        return settings.home()

    @property
    def config(self) -> config.WheelConfig:
        return config.load(self.home)


class Warehouse(DuckDBResource):
    """SQL over the store's Parquet files, in memory: writers and readers never meet."""

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in UTC that is closed also when the body raises."""
        opened = self.get_connection()
        connection = opened.__enter__()
        try:
            connection.sql("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


@dg.definitions
def resources() -> dg.Definitions:
    """What assets ask for by name."""
    return dg.Definitions(
        resources={
            "wheel": Wheel(),
            "warehouse": Warehouse(database=":memory:"),
            "pipes": dg.PipesSubprocessClient(),
        },
        executor=dg.in_process_executor,
    )
