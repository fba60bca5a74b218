"""The as-of join against the plainest queries that a person would write by hand: DuckDB's and polars' own best.

python -m bench.join [--trajectories 1000000] [--revisions 3] [--runs 5] [--keep FOLDER]

The question: of each trajectory that had arrived by a moment, the latest outcome of one signal that had arrived by
then. Once the verdict alone (reward and success), once with the ledger's row that made it. The peers take the latest by
`observed_at` and leave out all else: facts that were told twice or tie, voices that disagree, trajectories that were
stored twice, waits. Every answer is ordered by id, and they are checked to be equal. Only the join is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from bench import measure
from flywheel import warehouse
from flywheel.outcomes.join import joined, sql_moment, statement
from flywheel.outcomes.policy import RewardPolicy, Signal
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home

WORKSPACE = "bench"
START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = START + timedelta(days=9)
VERDICT = ("trajectory_id", "reward", "success")
ONCE = RewardPolicy(signals=(Signal(name="checker"),))
STOOD = RewardPolicy(signals=(Signal(name="checker"), Signal(name="reopened", wait_hours=48, silence=1.0)))

# What the join does not read (steps above all) is left out of the files, for all alike.
TRAJECTORY = """
SELECT md5(i::VARCHAR) AS id, 'bench' AS workspace, 'desk' AS task_type, md5((i // 2)::VARCHAR) AS content_digest,
    $start + to_seconds(i % 86400) AS arrived_at, 'bench' AS source, i AS source_line
FROM range($n) AS t(i)
"""

OUTCOME = """
SELECT md5(i || '/' || $r) AS id, 'bench' AS workspace, md5(i::VARCHAR) AS trajectory_id, 'checker' AS signal,
    (hash(i * 7 + $r) % 2)::DOUBLE AS value, 'bench' AS source, '1' AS checker_version, NULL::INTEGER AS step_index,
    $start + to_days($r::INTEGER) + to_seconds(i % 86400) AS observed_at, observed_at AS arrived_at, '' AS comment
FROM range($n) AS t(i) ORDER BY hash(i + $r)
"""


def fill(home: Home, trajectories: int, revisions: int) -> None:
    """One day of trajectories, and one outcome of each on that day and on each of the days after, in no order."""
    with warehouse.connect() as connection:
        for root, query, days in ((home.captures, TRAJECTORY, 1), (home.outcomes, OUTCOME, revisions)):
            for day in range(days):
                folder = warehouse.partition(root, WORKSPACE, (START + timedelta(days=day)).date())
                folder.mkdir(parents=True)
                given = {"start": START, "n": trajectories} | ({"r": day} if "$r" in query else {})
                rows = connection.sql(query, params=given)
                rows.write_parquet(str(folder / "all.parquet"), compression="zstd")


def ours(home: Home, *, told: bool) -> Callable[[], pa.Table]:
    """The join, of which only some columns are asked: of the ledger's row it makes all that `signals` says."""
    columns = [*VERDICT, "signals"] if told else VERDICT
    return lambda: joined(home, WORKSPACE, ONCE, AS_OF, columns=columns)


def as_view(home: Home, *, told: bool) -> Callable[[], pa.Table]:
    """The same as one statement, as the catalog's view has it: it always looks whether voices disagree."""
    columns = ", ".join([*VERDICT, "signals"] if told else VERDICT)
    query = f"SELECT {columns} FROM ({statement(home, WORKSPACE, ONCE, sql_moment(AS_OF))})"

    def answer() -> pa.Table:
        with warehouse.connect() as connection:
            return connection.sql(query).to_arrow_table()

    return answer


def plain_duckdb(home: Home, *, told: bool) -> Callable[[], pa.Table]:
    """One aggregation by trajectory, joined with the captures."""
    which = ", arg_max(id, observed_at) AS outcome_id" if told else ""

    def answer() -> pa.Table:
        with warehouse.connect() as connection:
            return connection.sql(
                f"""
                SELECT c.id AS trajectory_id, reward, reward >= 1 AS success {", outcome_id" if told else ""}
                FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, WORKSPACE)} AS c LEFT JOIN (
                    SELECT trajectory_id, arg_max(value, observed_at) AS reward {which}
                    FROM {warehouse.scan_sql(home.outcomes, OUTCOMES, WORKSPACE)}
                    WHERE arrived_at <= {sql_moment(AS_OF)} AND signal = 'checker' AND step_index IS NULL
                    GROUP BY trajectory_id
                ) AS o ON o.trajectory_id = c.id
                WHERE c.arrived_at <= {sql_moment(AS_OF)} ORDER BY c.id
                """
            ).to_arrow_table()

    return answer


def plain_polars(home: Home, *, told: bool, engine: Any) -> Callable[[], pa.Table]:
    """The same lazily in polars."""
    taken = ["value", "id"] if told else ["value"]

    def answer() -> pa.Table:
        latest = (
            pl.scan_parquet([*warehouse.files(home.outcomes, WORKSPACE)])
            .filter(pl.col("arrived_at") <= AS_OF, pl.col("signal") == "checker", pl.col("step_index").is_null())
            .group_by("trajectory_id")
            .agg(pl.col(name).get(pl.col("observed_at").arg_max()) for name in taken)
            .rename({"value": "reward"} | ({"id": "outcome_id"} if told else {}))
        )
        return (
            pl.scan_parquet([*warehouse.files(home.captures, WORKSPACE)])
            .filter(pl.col("arrived_at") <= AS_OF)
            .select(trajectory_id="id")
            .join(latest, on="trajectory_id", how="left")
            .with_columns(success=pl.col("reward") >= 1)
            .sort("trajectory_id")
            .collect(engine=engine)
            .to_arrow()
        )

    return answer


def run(home: Home, runs: int) -> list[dict[str, Any]]:
    """Every way to the two answers, as rows for `measure.write`."""
    found: list[dict[str, Any]] = []
    for answer, told in (("verdict", False), ("verdict and its ledger row", True)):
        works = {
            "flywheel": ours(home, told=told),
            "flywheel, the view": as_view(home, told=told),
            "plain DuckDB": plain_duckdb(home, told=told),
            "plain polars": plain_polars(home, told=told, engine="in-memory"),
            "plain polars, streaming": plain_polars(home, told=told, engine="streaming"),
        }
        answers = {name: _rows(work()) for name, work in works.items()}
        first = answers.pop("flywheel")
        for name, other in answers.items():
            if not other.equals(first):
                raise AssertionError(f"{name} gives another answer than the join")
        del answers, first
        times = measure.race(runs, works, warm=False)
        best = min(time.median for name, time in times.items() if not name.startswith("flywheel"))
        found += [
            {"answer": answer, "": name, "time": time, "of the best plain one": time.median / best}
            for name, time in times.items()
        ]
    whole = {
        "all columns, as decisions read it": lambda: joined(home, WORKSPACE, ONCE, AS_OF),
        "all columns, two signals and a wait": lambda: joined(home, WORKSPACE, STOOD, AS_OF),
    }
    few = _some(home)
    whole["all columns, of 1,000 trajectories"] = lambda: joined(home, WORKSPACE, ONCE, AS_OF, only=few)
    found += [
        {"answer": name, "": "flywheel", "time": time, "of the best plain one": None}
        for name, time in measure.race(runs, whole, warm=False).items()
    ]
    return found


def _rows(table: pa.Table) -> pl.DataFrame:
    """An answer in the peers' form."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if "signals" in frame.columns:
        told = pl.col("signals").list.first().struct.field("outcome_id")
        frame = frame.with_columns(outcome_id=told).drop("signals")
    return frame.select(sorted(frame.columns))


def _some(home: Home, count: int = 1000) -> pa.Table:
    with warehouse.connect() as connection:
        captures = warehouse.scan_sql(home.captures, TRAJECTORIES, WORKSPACE)
        return connection.sql(f"SELECT id AS trajectory_id FROM {captures} ORDER BY id LIMIT {count}").to_arrow_table()


def main() -> None:
    """Generate, unless the folder holds it already, then race."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=1_000_000)
    parser.add_argument("--revisions", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="generate into this folder, or use what is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(options.keep or Path(folder))
        if not warehouse.files(home.outcomes, WORKSPACE):
            fill(home, options.trajectories, options.revisions)
        measure.write(
            "join",
            run(home, options.runs),
            title=f"As-of join, {options.trajectories:,} trajectories x {options.revisions} revised outcomes each",
            note="Beyond the plain queries the join checks, in the same aggregation, whether facts tie, counts a "
            "trajectory that was stored twice once, and makes `signals`, the explanation of each verdict, where the "
            "peers give an id. Here the footers tell that the signal has one voice; where they cannot, the join "
            "also looks whether voices disagree, a fifth more CPU. The view does so always, and keeps all that it "
            "heard in memory for the longer way. What it keeps of each trajectory while it "
            "aggregates is what bounds it.",
        )


if __name__ == "__main__":
    main()
