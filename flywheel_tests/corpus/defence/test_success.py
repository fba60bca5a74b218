"""Success that was too easy."""

import polars as pl

from flywheel.corpus.defence.success import easier, effortless


def rows(n, name="t", **fields):
    row = {"task_type": "desk", "success": True, "calls": 2, "tools_offered": True, "tools_called": ["refund"]} | fields
    return pl.DataFrame([{"id": f"{name}{i:03}"} | row for i in range(n)])


def test_a_success_without_a_call_where_others_work_for_it():
    usual = rows(100)
    assert effortless(rows(2, calls=0), usual) == ["t000", "t001"]
    assert effortless(rows(2, calls=0, success=False), usual) == []
    assert effortless(rows(2, calls=0, task_type="chat"), usual) == []


def test_where_calling_nothing_is_often_right_nothing_is_found():
    usual = pl.concat([rows(90), rows(10, "u", calls=0)])
    assert effortless(rows(2, calls=0), usual) == []
    assert effortless(rows(2, calls=0), rows(19)) == []
    assert effortless(rows(2, calls=0, tools_offered=False), rows(100)) == []


def test_a_way_of_working_that_suddenly_succeeds():
    before = pl.concat([rows(20), rows(80, "u", success=False), rows(100, "v", tools_called=["look", "refund"])])
    (way,) = easier(pl.concat([rows(30, "n"), rows(10, "m", success=False)]), before, gain=0.3, chance=0.001)
    assert (way.task_type, way.tools, way.rows, way.succeeded) == ("desk", ("refund",), 40, 30)
    assert (way.rate, round(way.usual, 2), len(way.trajectory_ids)) == (0.75, 0.2, 30)


def test_what_always_went_well_still_does_and_a_few_may_be_lucky():
    before = pl.concat([rows(20), rows(80, "u", success=False)])
    assert easier(rows(40, "n"), rows(100), gain=0.3, chance=0.001) == []
    assert easier(rows(2, "n"), before, gain=0.3, chance=0.001) == []
    assert easier(rows(40, "n", task_type="new"), before, gain=0.3, chance=0.001) == []
