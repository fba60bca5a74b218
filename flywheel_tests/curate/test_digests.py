"""Digests of conversations: equal for equal deeds and equal beginnings, on every machine."""

import hashlib
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.digests import SCHEMA, effects_and_chain
from flywheel.schema import STEP, Step, ToolCall, canonical_json, trajectories_table
from flywheel_tests.outcomes.stored import trajectory


def steps_of(*conversations):
    """The column of steps of some conversations."""
    blank = trajectory("a")
    rows = [{**{f: getattr(blank, f) for f in blank.__struct_fields__}, "steps": steps} for steps in conversations]
    return trajectories_table([type(blank)(**row) for row in rows])["steps"]


def effects(*conversations):
    return effects_and_chain(steps_of(*conversations))["effects"].to_pylist()


def chains(*conversations):
    return effects_and_chain(steps_of(*conversations))["chain"].to_pylist()


def call(name="look_up", arguments="{}"):
    return ToolCall(id="call_0", name=name, arguments=arguments)


def acts(*calls):
    return Step(role="assistant", tool_calls=calls)


def result(metadata="{}", content="done"):
    return Step(role="tool", content=content, tool_call_id="call_0", metadata=metadata)


SAYS = Step(role="user", content="Mend it, please.")


def test_effects_are_the_calls_and_the_states_they_led_to():
    deeds = (SAYS, acts(call("look_up", '{"b": 1, "a": "é"}')), result('{"state": "cafe"}'))
    text = 'call7:look_up16:{"a":"é","b":1}state6:"cafe"'
    assert effects(deeds) == [hashlib.md5(text.encode()).hexdigest()]


def test_without_calls_there_are_no_effects():
    assert effects((SAYS,), (), (SAYS, result('{"state": 1}'))) == [None, None, None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            acts(call(arguments='{"a": 1, "b": {"d": [2, 3], "c": null}}')),
            acts(call(arguments='{"b":{"c":null,"d":[2,3]},"a":1}')),
            id="keys and spaces",
        ),
        pytest.param(acts(call(arguments='{"a": "\\u00e9"}')), acts(call(arguments='{"a": "é"}')), id="escapes"),
        pytest.param(
            Step(role="assistant", tool_calls=(call(),), content="Let me see."), acts(call()), id="words beside a call"
        ),
    ],
)
def test_equal_effects(one, other):
    first, second = effects((SAYS, one), (one, SAYS, SAYS))
    assert first == second == effects((other,))[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((acts(call("a")),), (acts(call("b")),), id="names"),
        pytest.param(
            (acts(call(arguments='{"a":[1,2]}')),), (acts(call(arguments='{"a":[2,1]}')),), id="order in a list"
        ),
        pytest.param((acts(call("a"), call("b")),), (acts(call("b"), call("a")),), id="order of calls"),
        pytest.param((acts(call()), result('{"state":1}')), (acts(call()), result('{"state":2}')), id="states"),
        pytest.param((acts(call()), result('{"state":1}')), (acts(call()), result()), id="no state"),
        pytest.param((acts(call("ab", "c")),), (acts(call("a", "bc")),), id="where a name ends"),
        pytest.param(
            (acts(call(arguments='{"a": 1')),), (acts(call(arguments='{"a":1')),), id="what is no JSON stands as it is"
        ),
        pytest.param(
            (acts(call(arguments="1],[2")),), (acts(call(arguments="1]"), call(arguments="[2")),), id="halves of JSON"
        ),
    ],
)
def test_different_effects(one, other):
    first, second = effects(one, other)
    assert first != second


def test_calls_in_one_step_or_in_two_are_the_same_deeds():
    assert len(set(effects((acts(call("a"), call("b")),), (acts(call("a")), acts(call("b")))))) == 1


def test_what_only_one_reader_takes_for_json_changes_nothing_for_the_rest():
    odd = [
        "1e999",
        "[" * 600 + "]" * 600,
        '{"a": "\\ud800"}',
        "NaN",
        "",
        "nul",
        '{"a":1}\n',
        "\x00",
        '{"a": 1, "a": 2}',
    ]
    together = effects(*((acts(call(arguments=text)),) for text in [*odd, '{"b": 2, "a": 1}']))
    alone = [effects((acts(call(arguments=text)),))[0] for text in [*odd, '{"a":1,"b":2}']]
    assert together == alone


def test_only_states_of_tool_results_in_json_objects_count():
    plain = effects((acts(call()), result()))
    others = ("not json", '["state"]', '"state"', '{"other": "state"}', '{"deep": {"state": 1}}', "{'state': 1}", "[]")
    assert effects(*((acts(call()), result(metadata)) for metadata in others)) == plain * len(others)
    said = Step(role="assistant", tool_calls=(call(),), metadata='{"state": 1}')
    assert effects((said,)) == plain


def test_a_state_may_be_any_json():
    one, other = effects(
        (acts(call()), result('{"state": {"a": 1, "b": 2}}')), (acts(call()), result('{"state":{"b":2,"a":1}}'))
    )
    assert one == other  # fmt: skip


def number(place, *parts, flag="-", said=""):
    """What a step adds to the chain, as MD5 has it."""
    text = "".join("-" if part is None else f"{len(part.encode())}:{part}" for part in parts)
    return int.from_bytes(hashlib.md5(f"{place}|{text}{flag}{said}".encode()).digest()[8:], "little")


def test_a_chain_in_full():
    episode = (
        Step(role="system", content="Ünder"),
        Step(role="assistant", reasoning="Look.", tool_calls=(call("look_up", '{"a": 1}'), call("b", ""))),
        Step(role="tool", content="", tool_name="look_up", is_error=True),
    )
    added = [
        number(0, "system", "Ünder", None, None),
        number(1, "assistant", None, "Look.", None, said='7:look_up8:{"a": 1}1:b0:'),
        number(2, "tool", "", None, "look_up", flag="1"),
    ]
    sums = [sum(added[: place + 1]) % 2**64 for place in range(3)]
    assert chains((), episode) == [[], [value - 2**64 if value >= 2**63 else value for value in sums]]


WORDS = st.none() | st.sampled_from(["", "a", "b", "1:a", "-", "é"])
CALLS = st.lists(st.builds(call, st.sampled_from(["a", "b"]), st.sampled_from(["{}", '{"a": 1}', "oops"])), max_size=2)
STEPS = st.builds(
    Step,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=WORDS,
    reasoning=WORDS,
    tool_calls=CALLS.map(tuple),
    tool_name=WORDS,
    is_error=st.sampled_from([None, True, False]),
    prompt_tokens=st.none() | st.just(3),
    metadata=st.sampled_from(["{}", '{"state": 1}', '{"state": "b"}', "torn"]),
)
CONVERSATIONS = st.lists(STEPS, max_size=4).map(tuple)


def said(step):
    """What counts of a step in its content digest."""
    calls = [(c.name, c.arguments) for c in step.tool_calls]
    return (step.role, step.content, step.reasoning, calls, step.tool_name, step.is_error)


def done(steps):
    """The deeds of a conversation, or None."""
    events = []
    for step in steps:
        for each in step.tool_calls:
            text = each.arguments
            events.append((each.name, text if text == "oops" else canonical_json(json.loads(text))))
        if step.role == "tool" and step.metadata not in ("{}", "torn"):
            events.append(json.loads(step.metadata)["state"])
    return events if any(step.tool_calls for step in steps) else None


@given(st.lists(CONVERSATIONS, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_equal_exactly_where_deeds_and_beginnings_are(conversations):
    table = effects_and_chain(steps_of(*conversations))
    assert table.schema == SCHEMA
    rows = list(zip(conversations, table["effects"].to_pylist(), table["chain"].to_pylist(), strict=True))
    for one, effects_of_one, chain_of_one in rows:
        assert len(chain_of_one) == len(one)
        for other, effects_of_other, chain_of_other in rows:
            assert (effects_of_one == effects_of_other) == (done(one) == done(other))
            if 0 < len(one) <= len(other):
                begins = [said(step) for step in one] == [said(step) for step in other[: len(one)]]
                assert (chain_of_one[-1] == chain_of_other[len(one) - 1]) == begins


@given(st.lists(CONVERSATIONS, min_size=2, max_size=6), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_row_has_its_digests_whatever_stands_beside_it(conversations, cut):
    column = steps_of(*conversations)
    parts = [effects_and_chain(piece) for piece in (column.slice(0, cut), column.slice(cut)) if len(piece)]
    assert pa.concat_tables(parts).equals(effects_and_chain(column))


def test_missing_lists_are_empty():
    absent = {field.name: None for field in STEP}
    column = pa.chunked_array([pa.array([None, [], [absent]], pa.list_(STEP))])
    table = effects_and_chain(column)
    assert table["effects"].to_pylist() == [None, None, None]
    assert [len(chain) for chain in table["chain"].to_pylist()] == [0, 0, 1]


def test_nothing_at_all():
    assert effects_and_chain(pa.chunked_array([], pa.list_(STEP))).equals(SCHEMA.empty_table())
