"""Packed conversations: what goes in comes out, value for value."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.packed import PACKED, kind, narrowed, packed, unpacked
from flywheel.schema import STEP, TRAJECTORIES

STEPS = TRAJECTORIES.field("steps").type

WORDS = st.none() | st.text(max_size=5) | st.sampled_from(["", "{}", "ä\0漢😀", "x" * 300])
WHOLE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**31, 2**32])
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 1, 1))
CALLS = st.fixed_dictionaries({"id": WORDS, "name": WORDS, "arguments": WORDS | st.just('{"a": {"b": [1, "ü"]}}')})
STEP_ROWS = st.fixed_dictionaries(
    {
        "role": WORDS,
        "content": WORDS,
        "reasoning": WORDS,
        "tool_calls": st.none() | st.lists(st.none() | CALLS, max_size=3),
        "tool_call_id": WORDS,
        "tool_name": WORDS,
        "is_error": st.none() | st.booleans(),
        "prompt_tokens": WHOLE,
        "completion_tokens": WHOLE,
        "at": MOMENTS,
        "metadata": WORDS,
    }
)
CONVERSATIONS = st.lists(st.none() | st.lists(st.none() | STEP_ROWS, max_size=4), max_size=6)


def lists(rows):
    return pa.chunked_array([pa.array(rows, STEPS)])


def test_a_conversation_is_one_value_and_comes_back():
    call = {"id": "c1", "name": "look_up", "arguments": '{"order": 1}'}
    blank = dict.fromkeys(STEP.names)
    steps = [
        blank | {"role": "user", "content": "Where is it?", "tool_calls": [], "metadata": "{}"},
        blank | {"role": "assistant", "tool_calls": [call], "prompt_tokens": 7},
        blank | {"role": "tool", "content": "", "tool_call_id": "c1", "is_error": False},
    ]
    values = packed(lists([steps, [], None]))
    assert values.type == PACKED and values.null_count == 1
    assert b"Where is it?" in values[0].as_py()
    assert unpacked(pa.chunked_array([values])).to_pylist() == [steps, [], None]


@given(CONVERSATIONS)
@settings(max_examples=200)
def test_what_goes_in_comes_out(rows):
    values = packed(lists(rows))
    values.validate(full=True)
    found = unpacked(pa.chunked_array([values]))
    found.validate(full=True)
    assert found.type == STEPS
    assert found.equals(pa.array(rows, STEPS))


@given(CONVERSATIONS, st.data())
def test_any_of_them_in_any_order_and_any_columns(rows, data):
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    columns = data.draw(st.lists(st.sampled_from(STEP.names), unique=True, min_size=1))
    cut = data.draw(st.integers(0, len(rows)))
    values = packed(lists(rows))
    found = unpacked(pa.chunked_array([values.slice(0, cut), values.slice(cut)]), columns, np.array(order, np.int64))
    assert found.equals(unpacked(pa.chunked_array([values.take(pa.array(order, pa.int64()))]), columns))
    expected = [rows[place] for place in order]
    assert found.type == kind(columns)
    assert found.to_pylist() == [
        row if row is None else [step if step is None else {name: step[name] for name in columns} for step in row]
        for row in expected
    ]


@given(CONVERSATIONS, st.data())
def test_a_part_of_an_array_is_packed_as_the_whole(rows, data):
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    part = lists(rows).slice(start, stop - start)
    assert packed(part).equals(packed(lists(rows[start:stop])))
    assert narrowed(part, ["role", "at"]).equals(unpacked(pa.chunked_array([packed(part)]), ["role", "at"]))


@pytest.mark.parametrize("rows", [[], [None], [[]], [[None]], [None, [], None]])
def test_next_to_nothing(rows):
    assert unpacked(pa.chunked_array([packed(lists(rows))])).to_pylist() == rows
    assert unpacked(pa.chunked_array([], PACKED)).to_pylist() == []
