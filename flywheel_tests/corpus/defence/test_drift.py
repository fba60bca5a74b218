"""Two samples compared, attribute by attribute."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.corpus.defence.drift import divergence, shifts

ROW = {
    "reward": 1.0,
    "n_steps": 6,
    "words": 40,
    "calls": 2,
    "tools_called": ["look_up"],
    "task_type": "desk",
    "end_state": "completed",
    "agent": "bot",
    "agent_version": "1.0",
    "source": "week/2026-11-02",
    "instructions": "a",
}


def rows(n, **changed):
    return pl.DataFrame([ROW | {k: v(i) if callable(v) else v for k, v in changed.items()} for i in range(n)])


def found(before, now):
    return {s.attribute: s for s in shifts(before, now) if s.p < 0.001}


def test_equal_samples_have_not_moved():
    for shift in shifts(rows(100), rows(50)):
        assert (shift.effect, shift.p) == (0, 1)


def test_a_number_that_grew():
    shift = found(rows(200, words=lambda i: 40 + i % 20), rows(200, words=lambda i: 50 + i % 20))["words"]
    assert (shift.measure, shift.effect) == ("Kolmogorov-Smirnov", 0.5)
    assert (shift.before["mean"], shift.now["mean"]) == (49.5, 59.5)


def test_tools_count_for_each_row_that_used_them():
    moved = found(rows(100), rows(100, tools_called=lambda i: ["look_up", "refund"] if i % 2 else []))["tools_called"]
    assert moved.now == pytest.approx({"look_up": 1 / 3, "refund": 1 / 3, "(none)": 1 / 3}, abs=1e-3)
    assert next(iter(moved.before.values())) == 1.0


def test_days_of_one_source_are_one_family_and_agents_have_versions():
    moved = found(rows(100), rows(100, source="week/2026-11-03", agent_version="2.0"))
    assert list(moved) == ["agent"]
    assert (moved["agent"].effect, moved["agent"].now) == (1.0, {"bot 1.0": 0.0, "bot 2.0": 1.0})


def test_few_rows_are_no_proof():
    assert found(rows(5), rows(5, source="mail")) == {}
    assert shifts(rows(5), rows(5).clear()) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_the_divergence_is_symmetric_and_lies_between_nothing_and_one_bit(counts):
    one, other = np.array(counts, float).T
    if one.sum() and other.sum():
        one, other = one / one.sum(), other / other.sum()
        assert divergence(one, other) == pytest.approx(divergence(other, one), abs=1e-12)
        assert -1e-12 <= divergence(one, other) <= 1 + 1e-12
        assert divergence(one, one) == pytest.approx(0, abs=1e-12)
