"""The join's benchmark at a size that takes a moment: every way gives the same answer, and is timed."""

from bench import join


def test_every_way_gives_the_same_answer(home):
    join.fill(home, 300, 3)
    rows = join.run(home, 1)
    plain = {"plain DuckDB", "plain polars", "plain polars, streaming"}
    assert {row[""] for row in rows} == plain | {"flywheel", "flywheel, the view"}
    assert all(row["time"].n == 1 for row in rows)
