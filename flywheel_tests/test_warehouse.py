"""Tables: rows go to the partition of their workspace and arrival day, and come back as they were."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.schema import (
    OUTCOMES,
    QUARANTINE,
    TRAJECTORIES,
    Outcome,
    Step,
    ToolCall,
    Trajectory,
    outcomes_table,
    trajectories_table,
)

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def outcome(workspace: str = "desk", *, at: datetime = MONDAY, trajectory: str = "t") -> Outcome:
    return Outcome(
        workspace=workspace,
        trajectory_id=trajectory,
        signal="ok",
        value=1.0,
        source="test",
        observed_at=at,
        arrived_at=at,
    )


def test_rows_go_to_the_partition_of_their_workspace_and_arrival_day(tmp_path: Path) -> None:
    tuesday_in_utc = datetime(2026, 1, 5, 23, 30, tzinfo=timezone(timedelta(hours=-1)))
    rows = [outcome("desk"), outcome("airline"), outcome("desk", at=tuesday_in_utc)]
    written = warehouse.append(tmp_path, outcomes_table(rows))
    assert [path.parent.relative_to(tmp_path).as_posix() for path in written] == [
        "workspace=airline/day=2026-01-05",
        "workspace=desk/day=2026-01-05",
        "workspace=desk/day=2026-01-06",
    ]
    assert written[0].parent == warehouse.partition(tmp_path, "airline", date(2026, 1, 5))
    assert warehouse.files(tmp_path) == sorted(written)
    assert warehouse.files(tmp_path, "desk", date(2026, 1, 6)) == [written[2]]
    assert warehouse.read(tmp_path, OUTCOMES, "desk").num_rows == 2
    assert warehouse.read(tmp_path, OUTCOMES, day=date(2026, 1, 5)).num_rows == 2


def test_the_same_rows_twice_are_one_file_and_no_file_is_ever_changed(tmp_path: Path) -> None:
    first = warehouse.append(tmp_path, outcomes_table([outcome()]))
    before = first[0].stat().st_mtime_ns
    assert warehouse.append(tmp_path, outcomes_table([outcome()])) == first
    warehouse.append(tmp_path, outcomes_table([outcome(trajectory="u")]))
    assert first[0].stat().st_mtime_ns == before
    assert len(warehouse.files(tmp_path)) == 2


def test_no_rows_write_nothing_and_an_absent_table_is_empty(tmp_path: Path) -> None:
    assert warehouse.append(tmp_path, outcomes_table([])) == []
    assert warehouse.read(tmp_path, OUTCOMES).equals(OUTCOMES.empty_table())


@settings(deadline=None)
@given(days=st.lists(st.integers(0, 4), max_size=8), seed=st.integers())
def test_in_any_order_and_any_batches_the_same_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], seed: int
) -> None:
    root = tmp_path_factory.mktemp("outcomes")
    rows = [outcome(at=MONDAY + timedelta(days=day), trajectory=str(n)) for n, day in enumerate(days)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    for start in range(0, len(shuffled), 3):
        warehouse.append(root, outcomes_table(shuffled[start : start + 3]))
    read = warehouse.read(root, OUTCOMES).sort_by("trajectory_id")
    assert read.equals(outcomes_table(sorted(rows, key=lambda row: row.trajectory_id)).combine_chunks())


def test_sql_over_a_table_and_over_one_that_is_not_there_yet(tmp_path: Path) -> None:
    def count(schema_root: str) -> list[tuple[object, ...]]:
        schema = {"outcomes": OUTCOMES, "captures": TRAJECTORIES, "quarantine": QUARANTINE}[schema_root]
        with warehouse.connect() as connection:
            source = warehouse.scan_sql(tmp_path / schema_root, schema, "desk")
            columns = connection.sql(f"SELECT * FROM {source}").columns
            assert columns == schema.names
            return connection.sql(f"SELECT count(*), max(arrived_at) FROM {source}").fetchall()

    assert [count(name) for name in ("outcomes", "captures", "quarantine")] == [[(0, None)]] * 3
    warehouse.append(tmp_path / "outcomes", outcomes_table([outcome(), outcome("airline")]))
    assert count("outcomes") == [(1, MONDAY)]


def test_an_absent_table_has_the_types_of_a_stored_one(tmp_path: Path) -> None:
    step = Step(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),), is_error=True, at=MONDAY)
    row = Trajectory(
        id="t",
        workspace="desk",
        task_id="1",
        task_group="1",
        task_type="",
        agent="a",
        end_state="completed",
        arrived_at=MONDAY,
        source="s",
        steps=(step,),
    )
    with warehouse.connect() as connection:
        absent = connection.sql(f"SELECT * FROM {warehouse.scan_sql(tmp_path, TRAJECTORIES)}").types
        warehouse.append(tmp_path, trajectories_table([row]))
        stored = connection.sql(f"SELECT * FROM {warehouse.scan_sql(tmp_path, TRAJECTORIES)}").types
    assert [str(kind) for kind in absent] == [str(kind) for kind in stored]


def test_a_connection_is_in_utc_and_closed_whatever_happens() -> None:
    with pytest.raises(RuntimeError), warehouse.connect() as connection:
        assert connection.sql("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
        raise RuntimeError
    with pytest.raises(duckdb.ConnectionException):
        connection.sql("SELECT 1")


def test_long_queries_draw_nothing_on_standard_output() -> None:
    with warehouse.connect() as connection:
        assert connection.sql("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]


def test_connections_that_are_open_at_once_see_nothing_of_each_other() -> None:
    with warehouse.connect() as one, warehouse.connect() as other:
        for connection, value in ((one, 1), (other, 2)):
            connection.register("given", pa.table({"value": [value]}))
            connection.sql("CREATE TABLE made AS SELECT * FROM given")
        other.sql("CREATE VIEW seen AS SELECT * FROM made")
        other.sql("SET TimeZone = 'Asia/Tokyo'")
        assert one.sql("FROM given, made, (SELECT current_setting('TimeZone'))").fetchall() == [(1, 1, "UTC")]
        assert other.sql("FROM given, seen, (SELECT current_setting('TimeZone'))").fetchall() == [(2, 2, "Asia/Tokyo")]
        with pytest.raises(duckdb.CatalogException):
            one.sql("FROM seen")


def test_what_is_set_for_a_whole_engine_is_set_in_one_that_is_alone() -> None:
    with warehouse.connect() as shared, warehouse.connect(alone=True) as alone:
        alone.sql("SET enable_external_access = false")
        alone.sql("SET lock_configuration = true")
        assert shared.sql("SELECT current_setting('enable_external_access')").fetchall() == [(True,)]


def test_a_connection_leaves_nothing_behind() -> None:
    def attached(connection: duckdb.DuckDBPyConnection) -> int:
        return len(connection.sql("SELECT 1 FROM duckdb_databases() WHERE NOT internal").fetchall())

    with warehouse.connect() as outer:
        for _ in range(3):
            with pytest.raises(duckdb.CatalogException), warehouse.connect() as inner:
                inner.sql("CREATE TABLE made AS SELECT * FROM range(1_000_000)")
                assert attached(outer) == 3
                inner.sql("FROM nowhere")
        # The first database of an engine is nobody's.
        assert attached(outer) == 2
        [(held,)] = outer.sql("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
        assert held < 1_000_000


def test_threads_ask_at_once() -> None:
    def asked(number: int) -> bool:
        for turn in range(20):
            with warehouse.connect() as connection:
                connection.register("given", pa.table({"value": [number, turn]}))
                connection.sql("CREATE TABLE made AS SELECT * FROM given")
                if connection.sql("SELECT value FROM made").fetchall() != [(number,), (turn,)]:
                    return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(asked, range(8)))


FORKED = """
import os
from flywheel import warehouse

def summed(connection):
    return connection.sql("SELECT sum(range) FROM range(1_000_000)").fetchall()

with warehouse.connect() as connection:
    expected = summed(connection)
    child = os.fork()
    if not child:
        with warehouse.connect() as own:
            os._exit(summed(own) != expected)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_starts_an_engine_of_its_own() -> None:
    # In a process that nothing else has run threads in.
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=60).returncode == 0
