"""Prepared rows: the captures, once and for all, with one row an id as of any time."""

import os
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.curate import derived, prepared
from flywheel.outcomes.join import sql_moment
from flywheel.schema import TRAJECTORIES, FlywheelError, Step, ToolCall, content_digest
from flywheel.settings import Home
from flywheel_tests.outcomes.stored import at, store, store_each, trajectory


def keys(*trajectories):
    return pa.table(
        {"id": [t.id for t in trajectories], "content_digest": [content_digest(t) for t in trajectories]},
        schema=pa.schema([("id", pa.string()), ("content_digest", pa.string())]),
    )


def test_every_column_of_captures_is_there(home):
    call = ToolCall(id="c", name="look_up", arguments='{"order": 1}')
    given = trajectory("a", started_at=at(-1), tools='[{"x": 1}]', source_line=7, metadata='{"k": 1}')
    acting = type(given)(
        **{name: getattr(given, name) for name in given.__struct_fields__ if name != "steps"},
        steps=(Step(role="user", content="hi", at=at(0)), Step(role="assistant", tool_calls=(call,))),
    )
    store(home, acting)
    dataset = prepared.bring(home, "w")
    captured = warehouse.read(home.captures, TRAJECTORIES)
    (found,) = prepared.batches(dataset, keys(acting), TRAJECTORIES.names)
    assert found.cast(TRAJECTORIES).equals(captured)
    stored = set(TRAJECTORIES.names) - {"steps"} | {"conversation", "marks"}
    assert set(dataset.schema.names) - stored == {"file", "effects", "chain"}


def test_columns_of_steps_alone(home):
    given = [trajectory("a", "first"), trajectory("b", "second", hours=1)]
    store_each(home, [[row] for row in given])
    dataset = prepared.bring(home, "w")
    places = prepared.positions(dataset, keys(*given))
    assert prepared.steps(dataset, places[[1, 0, 1]], ["role", "content"]).to_pylist() == [
        [{"role": step.role, "content": step.content} for step in given[number].steps] for number in (1, 0, 1)
    ]
    assert prepared.steps(dataset, places, ["role"]).to_pylist() == [
        [{"role": step.role} for step in row.steps] for row in given
    ]


def test_no_word_lies_in_what_is_kept_apart(home):
    store(home, trajectory("a", "a secret"))
    dataset = prepared.bring(home, "w")
    table = dataset.to_table()
    assert b"a secret" in table["conversation"][0].as_py()
    assert "a secret" not in str(table.drop_columns(["conversation"]).to_pylist())


def test_light_rows_have_all_columns_but_the_heavy(home):
    store(home, trajectory("a"))
    table = prepared.light(prepared.bring(home, "w"), at(0))
    heavy = {"steps", "tools", "metadata"}
    assert table.schema.names == [name for name in TRAJECTORIES.names if name not in heavy] + ["effects"]
    assert all(table.schema.field(field.name).type == field.type for field in TRAJECTORIES if field.name not in heavy)


def test_light_rows_are_those_that_had_arrived_in_the_order_of_ids(home):
    store_each(home, [[trajectory("b"), trajectory("c", hours=30)], [trajectory("a", hours=1)]])
    dataset = prepared.bring(home, "w")
    assert [prepared.light(dataset, at(h), ["id"])["id"].to_pylist() for h in (-1, 0, 1, 30)] == [
        [],
        ["b"],
        ["a", "b"],
        ["a", "b", "c"],
    ]


def test_the_first_arrival_of_an_id_stands(home):
    store_each(
        home, [[trajectory("a", "late", hours=30)], [trajectory("a", "early")], [trajectory("a", "last", hours=60)]]
    )
    table = prepared.light(prepared.bring(home, "w"), at(99), ["content_digest", "arrived_at"])
    assert table.to_pylist() == [{"content_digest": content_digest(trajectory("a", "early")), "arrived_at": at(0)}]


def test_a_moment_needs_its_zone_and_a_column_its_table(home):
    dataset = prepared.bring(home, "w")
    with pytest.raises(FlywheelError, match="has no time zone"):
        prepared.light(dataset, datetime(2026, 1, 1))
    with pytest.raises(FlywheelError, match="no column 'stepz'; they have: id"):
        prepared.light(dataset, at(0), ["stepz"])
    with pytest.raises(FlywheelError, match="no column 'stepz'; they have: id"):
        next(prepared.batches(dataset, keys(), ["stepz"]))


def test_nothing_arrived(home):
    dataset = prepared.bring(home, "w")
    assert prepared.light(dataset, at(0)).num_rows == 0
    assert prepared.positions(dataset, keys()).tolist() == []
    assert list(prepared.batches(dataset, keys(), ["id"])) == []


def test_positions_are_in_the_order_of_the_keys(home):
    rows = [trajectory(name, hours=24 * day) for day, name in enumerate("cab")]
    store_each(home, [[row] for row in rows])
    dataset = prepared.bring(home, "w")
    wanted = keys(*(rows[number] for number in (1, 0, 2, 1)))
    assert prepared.positions(dataset, wanted).tolist() == [1, 0, 2, 1]
    assert dataset.take([1, 0])["id"].to_pylist() == ["a", "c"]


def test_positions_count_no_deleted_rows(home):
    rows = [trajectory(name, hours=24 * day) for day, name in enumerate("cab")]
    store_each(home, [[row] for row in rows])
    prepared.bring(home, "w")
    warehouse.files(home.captures, "w")[0].unlink()
    dataset = prepared.bring(home, "w")
    wanted = keys(rows[2], rows[1])
    assert dataset.take(prepared.positions(dataset, wanted))["id"].to_pylist() == ["b", "a"]


def test_of_equal_rows_the_first_arrival_is_taken(home):
    store_each(home, [[trajectory("a", hours=1, source_line=2)], [trajectory("a")], [trajectory("a", hours=30)]])
    dataset = prepared.bring(home, "w")
    (place,) = prepared.positions(dataset, keys(trajectory("a")))
    assert dataset.take([place])["arrived_at"].to_pylist() == [at(0)]


def test_a_key_that_is_not_there_is_named(home):
    store(home, trajectory("a"))
    dataset = prepared.bring(home, "w")
    with pytest.raises(FlywheelError, match="trajectory 'b' with content"):
        prepared.positions(dataset, keys(trajectory("a"), trajectory("b"), trajectory("c")))
    with pytest.raises(FlywheelError, match="trajectory 'a' with content"):
        prepared.positions(dataset, keys(trajectory("a", "other words")))


@pytest.mark.parametrize("size", [1, 2, 100])
def test_batches_give_rows_in_the_order_of_the_keys(home, size):
    rows = [trajectory(f"{number}", f"says {number}", hours=7 * number) for number in range(9)]
    store_each(home, [[row] for row in rows])
    order = [4, 0, 8, 4, 3]
    found = list(prepared.batches(prepared.bring(home, "w"), keys(*(rows[n] for n in order)), ["steps", "id"], size))
    assert [len(batch) for batch in found] == {1: [1] * 5, 2: [2, 2, 1], 100: [5]}[size]
    table = pa.concat_tables(found)
    assert table.schema.names == ["steps", "id"]
    assert [(row["id"], row["steps"][0]["content"]) for row in table.to_pylist()] == [
        (f"{n}", f"says {n}") for n in order
    ]


def test_damage_that_a_reader_meets_is_said(home):
    store(home, trajectory("a"))
    prepared.bring(home, "w")
    (file,) = (derived.folder(home, "w", prepared.ROWS) / "data").iterdir()
    os.truncate(file, 100)
    dataset = derived.opened(home, "w", prepared.ROWS)
    with pytest.raises(FlywheelError, match="missing or damaged"):
        prepared.light(dataset, at(0))
    with pytest.raises(FlywheelError, match="missing or damaged"):
        list(prepared.batches(dataset, keys(trajectory("a")), ["steps"]))


ROWS = st.builds(
    trajectory,
    st.sampled_from("abc"),
    st.sampled_from(["x", "y"]),
    hours=st.sampled_from([0, 1, 25]),
    source=st.sampled_from(["one", "two"]),
    source_line=st.none() | st.integers(1, 2),
)


@given(st.lists(st.lists(ROWS, min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from([0, 1, 25]))
@settings(max_examples=25, deadline=None)
def test_light_is_what_a_query_over_the_captures_gives(arrivals, hours):
    with TemporaryDirectory() as folder, warehouse.connect() as connection:
        home = Home(Path(folder))
        store_each(home, arrivals)
        table = prepared.light(prepared.bring(home, "w"), at(hours), ["id", "content_digest", "source", "source_line"])
        asked = connection.sql(
            f"""
            SELECT id, content_digest, source, source_line
            FROM {warehouse.scan_sql(home.captures, TRAJECTORIES, "w")} WHERE arrived_at <= {sql_moment(at(hours))}
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY arrived_at, content_digest, source, source_line) = 1
            ORDER BY id
            """
        )
        assert table.equals(asked.to_arrow_table().cast(table.schema))
