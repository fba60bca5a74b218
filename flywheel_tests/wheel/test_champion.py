"""The release stage: what a report leads to, and that it is the report's comparison that counts."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from flywheel.evaluate import report as reports
from flywheel.evaluate.entrants import Entrant
from flywheel.evaluate.suite import Suite
from flywheel.release import history, registry
from flywheel.schema import FlywheelError
from flywheel.wheel import judging
from flywheel.wheel.config import WheelConfig
from flywheel_tests.evaluate.toy import rows
from flywheel_tests.release.test_registry import released, trained
from flywheel_tests.wheel import turn

CONFIG = WheelConfig(environments=("desk",), heldout_tasks=40)
V2 = turn.version(CONFIG, 2)
HALF = [True] * 20 + [False] * 20


@pytest.fixture
def judge(home):
    """Writes the report of v2: `dpo` with the given successes against the champion `first`, which wins half."""

    def write(successes: list[bool]) -> None:
        entrants = [
            Entrant(name="dpo", policy_id="second", digest=trained(home, "second")),
            Entrant(name="champion", policy_id="first", digest=trained(home, "first")),
        ]
        results = pa.concat_tables(
            [
                rows(name, won, temperature=temperature)
                for name, won in (("dpo", successes), ("champion", HALF))
                for temperature in (0.0, 1.0)
            ]
        )
        report = reports.build(
            results,
            id=V2.key,
            created_at=datetime(2026, 11, 11, tzinfo=UTC),
            suite=Suite(environments={"desk": 40}),
            entrants=entrants,
            candidate="dpo",
            champion="champion",
            leaks=[],
        )
        reports.write(home, report, results)
        released(home, "first", turn.version(CONFIG, 1).key, None)

    return write


def test_a_better_candidate_is_promoted_once(home, judge):
    judge([True] * 40)
    for _ in range(2):
        assert judging.champion(home, CONFIG, V2).counts == {"decision": "promote", "champion": "second"}
    assert [event.policy_id for event in history.read(home)] == ["first", "second"]


def test_a_worse_candidate_is_refused_and_the_champion_stays(home, judge):
    judge([False] * 40)
    facts = judging.champion(home, CONFIG, V2)
    assert facts.counts == {"decision": "keep", "champion": "first"}
    assert [row["rule"] for row in facts.tables["rules"] if not row["passed"]] == [
        "better than the champion",
        "not worse as it acts",
        "guard slice toy",
    ]


def test_a_candidate_that_was_compared_with_another_than_the_champion_is_not_promoted(home, judge):
    judge([True] * 40)
    trained(home, "by-hand")
    released(home, "by-hand", "a-report", "first")
    with pytest.raises(FlywheelError, match="was compared with first, but by-hand serves now"):
        judging.champion(home, CONFIG, V2)
    champion = registry.champion(home)
    assert champion is not None and champion.policy_id == "by-hand"
