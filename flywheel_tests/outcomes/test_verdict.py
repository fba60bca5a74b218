"""What policies make of facts, by literal rows; and any policy, any ledger, any files against the plain reference."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.outcomes.join import CANDIDATES, JOINED, joined, sql_moment, statement
from flywheel.outcomes.policy import RewardPolicy, Signal
from flywheel.settings import Home
from flywheel_tests.outcomes import reference
from flywheel_tests.outcomes.stored import at, outcome, store, store_each, trajectory


def judged(home, policy, hours=0.0):
    """State and reward of the only trajectory, and what each entry of `signals` says and how it counted."""
    (row,) = joined(home, "w", policy, at(hours)).to_pylist()
    return row["state"], row["reward"], [(h["signal"], h["value"], h["role"]) for h in row["signals"]]


OVERRULED = RewardPolicy(
    signals=(
        Signal(name="person", required=False, tier=1),
        Signal(name="checker"),
        Signal(name="reopened", required=False, wait_hours=48, silence=1.0),
    )
)


def test_a_higher_tier_overrides_and_ends_the_waiting_for_lower_ones(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0), outcome("a", "person", 0.5, hours=2))
    assert judged(home, OVERRULED, 1) == ("pending", None, [("checker", 1.0, "counted")])
    assert judged(home, OVERRULED, 2) == ("resolved", 0.5, [("person", 0.5, "counted"), ("checker", 1.0, "outranked")])


def test_a_higher_tier_settles_a_conflict_below_it(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0), outcome("a", "checker", 0.0, source="other"))
    assert judged(home, OVERRULED, 48)[0] == "conflicting"
    store(home, outcome("a", "person", 1.0, hours=50))
    assert judged(home, OVERRULED, 50)[:2] == ("resolved", 1.0)


def test_a_silent_higher_tier_leaves_the_verdict_to_the_lower_one(home):
    store(home, trajectory("a"), outcome("a", "checker", 0.0))
    assert judged(home, OVERRULED, 48) == (
        "resolved",
        0.0,
        [("checker", 0.0, "counted"), ("reopened", 1.0, "assumed")],
    )


def test_where_all_are_silent_the_highest_tier_with_an_assumption_counts(home):
    store(home, trajectory("a"))
    signals = (Signal(name="person", tier=2, required=False), Signal(name="kept", tier=1, silence=0.5))
    policy = RewardPolicy(signals=(*signals, Signal(name="checker", silence=1.0)))
    assert judged(home, policy) == ("resolved", 0.5, [("kept", 0.5, "assumed")])


def test_task_types_wait_as_long_as_they_need(home):
    signal = Signal(name="merged", wait_hours=1, wait_by_task_type={"code": 100}, silence=0.0)
    store(home, trajectory("a", task_type="chat"), trajectory("b", task_type="code"))
    rows = joined(home, "w", RewardPolicy(signals=(signal,)), at(1)).to_pylist()
    assert [(row["state"], row["matures_at"]) for row in rows] == [("resolved", at(1)), ("pending", at(100))]


def test_only_the_named_checker_versions_count(home):
    store(home, trajectory("a"), outcome("a", "checker", 1.0, checker_version="1"))
    store(home, outcome("a", "checker", 0.0, hours=1, checker_version="2"))
    only = RewardPolicy(signals=(Signal(name="checker", checker_versions=("1",)),))
    assert judged(home, only, 1) == ("resolved", 1.0, [("checker", 1.0, "counted")])


def test_the_newest_checker_version_supersedes_older_ones_whenever_it_ran(home):
    store(home, trajectory("a"), outcome("a", "checker", 0.0, checker_version="1.10"))
    store(home, outcome("a", "checker", 1.0, hours=9, checker_version="1.9"))
    newest = RewardPolicy(signals=(Signal(name="checker", newest_version=True),))
    assert judged(home, newest, 9) == ("resolved", 0.0, [("checker", 0.0, "counted")])


def test_versions_of_different_sources_do_not_supersede_each_other(home):
    store(home, trajectory("a"), outcome("a", "checker", 0.0, checker_version="1", source="x"))
    store(home, outcome("a", "checker", 1.0, checker_version="2", source="y"))
    newest = RewardPolicy(signals=(Signal(name="checker", newest_version=True),))
    assert judged(home, newest)[0] == "conflicting"


@pytest.mark.parametrize(("steps", "reward"), [("mean", 0.5), ("sum", 1.5), ("min", 0.25), ("last", 0.25)])
def test_a_reward_of_the_rewards_of_steps(home, steps, reward):
    """In the order of the steps, each step's revision counting; what is said of the whole is another matter."""
    store(home, trajectory("a"), outcome("a", "judge", 1.0))
    store(home, outcome("a", "judge", 0.25, step_index=5), outcome("a", "judge", 0.0, step_index=1))
    store(home, outcome("a", "judge", 1.0, hours=1, step_index=1), outcome("a", "judge", 0.25, step_index=3))
    policy = RewardPolicy(signals=(Signal(name="judge", steps=steps),))
    told = [("judge", value, "counted") for value in (1.0, 0.25, 0.25)]
    assert judged(home, policy, 1) == ("resolved", reward, told)


def test_partial_credit_passes_through(home):
    store(home, trajectory("a"), outcome("a", "reward", 0.375))
    assert judged(home, RewardPolicy())[:2] == ("resolved", 0.375)


def test_of_the_first_that_spoke_the_others_are_outranked(home):
    signals = (Signal(name="person", silence=0.5), Signal(name="judge", required=False), Signal(name="checker"))
    store(home, trajectory("a"), outcome("a", "checker", 0.0), outcome("a", "judge", 1.0))
    assert judged(home, RewardPolicy(signals=signals, combine="first")) == (
        "resolved",
        1.0,
        [("person", 0.5, "outranked"), ("judge", 1.0, "counted"), ("checker", 0.0, "outranked")],
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_heard(home, value):
    store(home, trajectory("a"), outcome("a", "reward", value))
    assert judged(home, RewardPolicy()) == ("expired", None, [])


def test_equal_moments_of_truth_are_told_apart_by_what_was_learned_last(home):
    """A fact that is told again later was learned when it was told first."""
    store(home, trajectory("a"), outcome("a", "reward", 0.0, arrived_at=at(1)))
    store(home, outcome("a", "reward", 1.0, arrived_at=at(2)), outcome("a", "reward", 0.0, arrived_at=at(3)))
    assert judged(home, RewardPolicy(), 3)[:2] == ("resolved", 1.0)


IDS = ("a", "b", "c")
NAMES = ("checker", "judge", "person")
HOURS = (0, 1, 30, 60)

signals = st.builds(
    Signal,
    name=st.sampled_from(NAMES),
    required=st.booleans(),
    wait_hours=st.sampled_from((0, 24, 48)),
    silence=st.sampled_from((None, 0.0, 1.0)),
    weight=st.sampled_from((1.0, 2.5)),
    tier=st.integers(0, 2),
    wait_by_task_type=st.sampled_from(({}, {"code": 40.0})),
    checker_versions=st.sampled_from(((), (), ("9", "10"))),
    newest_version=st.sampled_from((False, False, True)),
    steps=st.sampled_from((None, None, None, "mean", "sum", "min", "last")),
)
simple = st.builds(
    Signal, name=st.sampled_from(NAMES), wait_hours=st.sampled_from((0, 24)), silence=st.sampled_from((None, 1.0))
)
policies = st.builds(
    RewardPolicy,
    signals=st.lists(st.one_of(simple, signals), min_size=1, max_size=3, unique_by=lambda s: s.name).map(tuple),
    combine=st.sampled_from(("min", "mean", "first")),
    success_at=st.sampled_from((0.5, 1.0)),
    on_conflict=st.sampled_from(("hold", "latest")),
)
outcomes = st.builds(
    outcome,
    st.sampled_from((*IDS, "nobody")),
    st.sampled_from((*NAMES, "unheard of")),
    st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    hours=st.sampled_from(HOURS),
    source=st.sampled_from(("x", "y")),
    checker_version=st.sampled_from(("9", "10", "11")),
    step_index=st.sampled_from((None, None, 0, 1)),
    arrived_at=st.sampled_from([at(hours) for hours in HOURS]),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(policies, st.lists(outcomes, max_size=14, unique_by=lambda o: (o.id, o.arrived_at)), st.data())
def test_any_policy_over_any_files_gives_what_it_says(policy, facts, data):
    trajectories = [
        trajectory(id, hours=hours, task_type=kind)
        for id, hours, kind in zip(IDS, (0, 1, 31), ("chat", "code", "chat"), strict=True)
    ]
    records = data.draw(st.permutations([*trajectories, *facts]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    told_again = [o for o in facts if data.draw(st.booleans())]
    expected = [reference.verdict(policy, t, facts, at(30)) for t in trajectories if t.arrived_at <= at(30)]
    with TemporaryDirectory() as folder:
        home = Home(Path(folder))
        store_each(home, [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)])
        store(home, *told_again)
        whole = joined(home, "w", policy, at(30))
        assert whole.to_pylist() == expected
        with warehouse.connect() as connection:
            view = connection.sql(statement(home, "w", policy, sql_moment(at(30)))).to_arrow_table()
        assert view.cast(JOINED).equals(whole.combine_chunks())
        asked = data.draw(st.lists(st.sampled_from(JOINED.names), min_size=1, unique=True))
        assert joined(home, "w", policy, at(30), columns=asked).equals(whole.select(asked))
        few = data.draw(st.lists(st.sampled_from((*IDS, "nobody")), unique=True))
        only = pa.table({"trajectory_id": pa.array(few, pa.string())})
        part = joined(home, "w", policy, at(30), only=only)
        assert part.to_pylist() == [row for row in expected if row["trajectory_id"] in few]
        known = [{"id": t.id, "arrived_at": t.arrived_at, "task_type": t.task_type} for t in trajectories]
        candidates = pa.Table.from_pylist(known, CANDIDATES)
        assert joined(home, "w", policy, at(30), candidates=candidates).equals(whole)
        assert whole.schema == JOINED
