"""Terms: each word of an episode as a number, with how often it stands there."""

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flywheel.curate import derived, terms
from flywheel.curate.words import text_words
from flywheel.schema import Step, ToolCall
from flywheel_tests.outcomes.stored import store, trajectory


def numbers(text):
    return terms.query_terms(text).tolist()


def counted(*texts):
    rows = terms.counted(text_words(pa.array(texts, pa.string()))).to_pylist()
    return [dict(zip(row["terms"], row["counts"], strict=True)) for row in rows]


def test_words_are_counted():
    refund, please = numbers("refund")[0], numbers("please")[0]
    assert counted("Refund, refund please", "", "please") == [{refund: 2, please: 1}, {}, {please: 1}]
    assert counted("refund " * 300) == [{refund: 255}]


@given(st.lists(st.text(st.sampled_from("abc d"), max_size=20), max_size=300))
def test_every_text_is_counted_by_itself(texts):
    assert counted(*texts) == [count for text in texts for count in counted(text)]
    for row in terms.counted(text_words(pa.array(texts, pa.string()))).to_pylist():
        assert all(a < b for a, b in pairwise(row["terms"]))
        assert sum(row["counts"]) == row["n_words"]


def test_a_query_has_each_of_its_terms_once():
    assert numbers("refund a refund") == sorted({*numbers("refund"), *numbers("a")})
    assert numbers("?!") == []


def test_the_whole_episode_counts_but_for_what_the_system_said(home):
    call = ToolCall(id="c", name="look_up", arguments='{"order": 17}')
    given = trajectory("a", "hello")
    steps = (
        Step(role="system", content="secret"),
        Step(role="user", content="hello"),
        Step(role="assistant", reasoning="thinking", tool_calls=(call,)),
        Step(role="tool", content="found"),
    )
    store(home, type(given)(**{name: getattr(given, name) for name in given.__struct_fields__} | {"steps": steps}))
    [row] = derived.bring(home, "w", terms.ROWS).to_table().to_pylist()
    assert row["terms"] == numbers("hello thinking look_up order 17 found")
