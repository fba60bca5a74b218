"""Literal verdicts of the gate."""

import random

import pyarrow as pa
import pytest

from flywheel.evaluate.slices import Slice
from flywheel.release.gate import Rules, Verdict, decide
from flywheel.schema import FlywheelError
from flywheel_tests.evaluate.toy import rows

N = 600


def won(share: float, n: int = N, seed: int = 0) -> list[bool]:
    """A share of the tasks won: the easiest ones, which lie about at random."""
    difficulty = random.Random(seed).sample(range(n), n)
    return [d < round(share * n) for d in difficulty]


def played(name: str, greedy: list[bool], acting: list[bool] | None = None, environment: str = "toy") -> pa.Table:
    acting = greedy if acting is None else acting
    return pa.concat_tables(
        [rows(name, s, temperature=t, environment=environment) for t, s in ((0.0, greedy), (1.0, acting))]
    )


def judged(*tables: pa.Table, champion: str | None = "old", leaks=(), **options) -> Verdict:
    return decide(pa.concat_tables(tables), "new", champion, leaks=leaks, **options)


def failed(verdict: Verdict) -> list[str]:
    return [r.rule for r in verdict.reasons if not r.passed]


def test_a_better_candidate_is_promoted():
    verdict = judged(played("new", won(0.8)), played("old", won(0.5)))
    assert (verdict.promote, verdict.blocked, failed(verdict)) == (True, False, [])
    assert [r.rule for r in verdict.reasons] == [
        "leakage",
        "enough tasks",
        "better than the champion",
        "not worse as it acts",
        "guard slice toy",
    ]
    assert "0.800 against 0.500: +0.300" in verdict.why


def test_a_worse_candidate_is_refused_with_the_reason():
    verdict = judged(played("new", won(0.5)), played("old", won(0.8)))
    assert (verdict.promote, verdict.blocked) == (False, False)
    assert failed(verdict) == ["better than the champion", "not worse as it acts", "guard slice toy"]
    assert verdict.why.startswith("better than the champion: 0.500 against 0.800: -0.300")


def test_an_equal_candidate_is_refused():
    verdict = judged(played("new", won(0.7)), played("old", won(0.7)))
    assert failed(verdict) == ["better than the champion"]


def test_a_gain_that_chance_explains_is_refused():
    verdict = judged(played("new", won(0.53, seed=1)), played("old", won(0.5)))
    assert "better than the champion" in failed(verdict)


def test_better_greedy_but_worse_as_it_acts_is_refused():
    verdict = judged(played("new", won(0.8), won(0.5)), played("old", won(0.5), won(0.6)))
    assert failed(verdict) == ["not worse as it acts"]


def test_better_overall_but_worse_on_a_guard_slice_is_refused():
    tables = (
        played("new", won(0.9)),
        played("old", won(0.4)),
        played("new", won(0.5, 100), environment="small"),
        played("old", won(0.8, 100), environment="small"),
    )
    verdict = judged(*tables)
    assert failed(verdict) == ["guard slice small"]
    assert "-0.300" in verdict.why
    # The same loss on a slice that does not guard is reported, not judged.
    loose = [Slice(name="small", where="environment = 'small'")]
    assert judged(*tables, slices=loose).promote


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_leak_is_refused_however_good_the_candidate(kind: str):
    leaks = [{"trajectory_id": "t1", "evaluation_task_id": "toy/1", "kind": kind}]
    verdict = judged(played("new", won(0.9)), played("old", won(0.4)), leaks=leaks)
    assert (verdict.promote, verdict.blocked, failed(verdict)) == (False, True, ["leakage"])
    assert "1 training rows hold held-out tasks" in verdict.why


def test_no_audit_is_no_pass():
    verdict = judged(played("new", won(0.9)), played("old", won(0.4)), leaks=None)
    assert (verdict.blocked, failed(verdict)) == (True, ["leakage"])


def test_too_few_tasks_cannot_be_judged():
    verdict = judged(played("new", won(0.9, 80)), played("old", won(0.1, 80)))
    assert (verdict.promote, verdict.blocked) == (False, True)
    assert judged(played("new", won(0.9, 80)), played("old", won(0.1, 80)), rules=Rules(minimum_tasks=80)).promote


def test_tasks_left_out_by_one_side_cannot_be_judged():
    verdict = judged(played("new", won(0.9)), played("old", won(0.4, N + 50)))
    assert failed(verdict) == ["enough tasks"]
    assert "600 tasks in common, of 600 and 650 played" in verdict.why


def test_a_gain_in_one_template_alone_is_refused():
    # Of eight templates one is solved by the candidate, and none else changes.
    verdict = judged(played("new", [i % 8 == 0 for i in range(N)]), played("old", [False] * N))
    assert failed(verdict) == ["better than the champion"]


def test_a_first_champion_has_to_beat_the_baselines():
    empty, agents = played("empty", won(0.0)), played("captured agents", won(0.5), won(0.65))
    verdict = judged(played("new", won(0.8)), empty, agents, champion=None)
    assert verdict.promote
    assert [r.rule for r in verdict.reasons] == [
        "leakage",
        "enough tasks",
        "better than empty T=0",
        "enough tasks",
        "better than captured agents T=1",
    ]
    refused = judged(played("new", won(0.6)), empty, agents, champion=None)
    assert failed(refused) == ["better than captured agents T=1"]


def test_a_first_champion_without_baselines_has_to_be_allowed():
    alone = played("new", won(0.6))
    assert failed(judged(alone, champion=None)) == ["first champion"]
    assert judged(alone, champion=None, rules=Rules(allow_first=True)).promote
    assert not judged(alone, champion=None, rules=Rules(allow_first=True), leaks=None).promote


def test_rows_that_are_missing_are_said_to_be():
    with pytest.raises(FlywheelError, match="no rows of old T=0"):
        judged(played("new", won(0.8)))
