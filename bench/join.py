"""How long the as-of join and the decisions take, over generated trajectories with revised outcomes.

python bench/join.py [--trajectories 100000] [--revisions 3] [--decide]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flywheel import artifacts, warehouse
from flywheel.curate.decide import decide
from flywheel.curate.spec import Spec
from flywheel.outcomes.join import joined
from flywheel.outcomes.policy import checked
from flywheel.schema import OUTCOMES, TRAJECTORIES
from flywheel.settings import Home

START = datetime(2026, 1, 1, tzinfo=UTC)

TRAJECTORY = """
SELECT md5(i::VARCHAR) AS id, 'bench' AS workspace, 't' || i AS task_id, 'g' || (i % 200) AS task_group,
    'desk' AS task_type, 'bot' AS agent, '1' AS agent_version, 'm' AS model, 'p' AS provider, '[]' AS tools,
    'completed' AS end_state, NULL::TIMESTAMPTZ AS started_at,
    $start + to_seconds((i % 86400)) AS arrived_at, 'bench' AS source, i AS source_line, '{}' AS metadata,
    [{'role': 'user', 'content': 'order ' || i || ' of ' || md5((i % 5000)::VARCHAR), 'reasoning': NULL,
      'tool_calls': []::STRUCT(id VARCHAR, "name" VARCHAR, arguments VARCHAR)[], 'tool_call_id': NULL,
      'tool_name': NULL, 'is_error': NULL::BOOLEAN, 'prompt_tokens': NULL::BIGINT,
      'completion_tokens': NULL::BIGINT, 'at': NULL::TIMESTAMPTZ, 'metadata': '{}'}] AS steps,
    1::INTEGER AS n_steps, md5((i // 2)::VARCHAR) AS content_digest
FROM range($n) AS t(i)
"""

OUTCOME = """
SELECT md5(i || '/' || r) AS id, 'bench' AS workspace, md5(i::VARCHAR) AS trajectory_id, 'checker' AS signal,
    (hash(i * 7 + r) % 2)::DOUBLE AS value, 'bench' AS source, '1' AS checker_version, NULL::INTEGER AS step_index,
    $start + to_hours(r::BIGINT) AS observed_at, $start + to_hours(r::BIGINT) AS arrived_at, '' AS comment
FROM range($n) AS t(i), range($revisions) AS u(r)
"""


def fill(home: Home, trajectories: int, revisions: int) -> None:
    """One day of trajectories, and outcomes that are each revised every hour after."""
    with warehouse.connect() as connection:
        parameters = {"start": START, "n": trajectories}
        captures = connection.sql(TRAJECTORY, params=parameters).to_arrow_table().cast(TRAJECTORIES)
        outcomes = connection.sql(OUTCOME, params=parameters | {"revisions": revisions}).to_arrow_table()
    for root, table in ((home.captures, captures), (home.outcomes, outcomes.cast(OUTCOMES))):
        artifacts.write_parquet(warehouse.partition(root, "bench", START.date()) / "all.parquet", table)


def main() -> None:
    """Generate, join and, if asked, decide; print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--revisions", type=int, default=3)
    parser.add_argument("--decide", action="store_true")
    options = parser.parse_args()
    policy = checked("reopened")
    as_of = START + timedelta(days=9)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        fill(home, options.trajectories, options.revisions)
        began = time.perf_counter()
        verdicts = joined(home, "bench", policy, as_of)
        seconds = time.perf_counter() - began
        print(f"join: {len(verdicts):,} trajectories x {options.revisions} revisions in {seconds:.2f} s")
        if options.decide:
            began = time.perf_counter()
            decisions = decide(home, Spec(workspace="bench", reward_policy=policy), as_of)
            print(f"decide: {len(decisions):,} candidates in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
