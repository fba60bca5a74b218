"""Filters: what they may say, and that they can do nothing else."""

import pyarrow as pa
import pytest

from flywheel.curate.filter import COLUMNS, passes
from flywheel.schema import TRAJECTORIES, FlywheelError
from flywheel_tests.outcomes.stored import at

TYPES = {"reward": pa.float64(), "success": pa.bool_(), "state": pa.string(), "trajectory_id": pa.string()}
GIVEN = [
    {"trajectory_id": "a", "reward": 1.0, "success": True, "model": "m-1", "n_steps": 4, "arrived_at": at(0)},
    {"trajectory_id": "b", "reward": 0.4, "success": False, "model": "m-2", "n_steps": 9, "arrived_at": at(24)},
    {"trajectory_id": "c", "reward": None, "success": None, "model": "x", "n_steps": 1, "arrived_at": at(48)},
]
CANDIDATES = pa.Table.from_pylist(
    GIVEN, pa.schema([(name, TYPES.get(name) or TRAJECTORIES.field(name).type) for name in COLUMNS])
)


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("success", "a"),
        ("reward > 0", "ab"),
        ("NOT success", "b"),
        ("reward IS NULL", "c"),
        ("model LIKE 'm-%' AND n_steps BETWEEN 5 AND 10", "b"),
        ("arrived_at < '2026-03-02' OR starts_with(model, 'x')", "ac"),
        ("CASE WHEN success THEN n_steps < 5 ELSE coalesce(reward, 1) = 1 END", "ac"),
        ("reward > 0 -- a remark", "ab"),
        ("lower(string_split(model, '-')[1]) || substr(model, 2, 1) = 'm-' AND abs(reward - 1) * 2 < 0.5", "a"),
        ("date_trunc('day', arrived_at) = '2026-03-02' OR model IN ('x') OR round(n_steps / 9) = 1", "bc"),
        ("true", "abc"),
    ],
)
def test_conditions(expression, kept):
    answers = passes(CANDIDATES, expression).to_pylist()
    assert "".join(sorted(row["trajectory_id"] for row in answers if row["passes"])) == kept


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "reward",
        "reward >",
        "rewrad > 0",
        "success; DROP TABLE candidates",
        "true) UNION SELECT 1, true --",
        "true FROM candidates",
        "success, true",
        "reward > (SELECT avg(reward) FROM candidates)",
        "model IN (SELECT content FROM read_text('/etc/passwd'))",
        "read_text('/etc/passwd') = ''",
        "reward = max(reward) OVER ()",
        "max(reward) > 0",
        "random() < 0.5",
        "arrived_at < now()",
        "arrived_at < current_date",
        "arrived_at < current_localtimestamp()",
        "age(arrived_at) > INTERVAL 1 DAY",
        "length(repeat(model, 1000000000)) > 1",
        "NOT " * 900 + "success",
        "len(range(1000000000)) > 1",
        "format('{:1000000000d}', n_steps) = ''",
        "length(replace(replace(model, 'm', 'mmmmmmmmmm'), 'm', 'mmmmmmmmmm')) > 1",
        "getenv('HOME') = ''",
        "COLUMNS(*)",
        "reward > ?",
        "reward > $limit",
    ],
)
def test_anything_else_is_refused_and_the_columns_are_named(expression):
    with pytest.raises(FlywheelError, match=r"Write a condition on: reward, success, state"):
        passes(CANDIDATES, expression)
