"""Words as numbers."""

import unicodedata
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import warehouse
from flywheel.curate.fingerprint import EPISODE
from flywheel.curate.words import Words, episode_words, text_words
from flywheel.schema import Step, ToolCall, trajectories_table
from flywheel_tests.outcomes.stored import trajectory


def documents(words: Words) -> list[list[int]]:
    return [words.hashes[a:b].tolist() for a, b in pairwise(words.bounds)]


def of(*texts: str | None) -> list[list[int]]:
    return documents(text_words(pa.array(texts, pa.string())))


def test_case_and_punctuation_are_no_difference():
    assert of("Refund O12, please!") == of("refund o12 PLEASE") != of("refund o13 please")
    assert of("Où est l'ÉTÉ?") == of("où est l été")
    assert of("snake_case") != of("snake case")


def test_a_word_ends_with_its_text():
    assert of("one", "two", "", None, "three") == [*of("one"), *of("two"), [], [], *of("three")]
    assert of() == []
    assert of(None) == [[]]


def test_numbers_are_the_same_on_every_machine():
    found = of("Ship order_17 to Besançon, internationalisation " + "x" * 200)[0]
    assert [f"{n:016x}" for n in found] == [
        "0f85b4db52cae70e",
        "877a78f121a78e88",
        "103a5347a1bf20d3",
        "ade434a84bdc1293",
        "811475f53a111d43",
        "8da1761b0e4c3056",
    ]


words = st.text(st.sampled_from("abcXYZ019_"), min_size=1, max_size=300)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, max_size=30))
def test_different_words_are_different_numbers(some):
    given = sorted({word.lower() for word in some})
    (numbers,) = of(" ".join(given))
    assert len(set(numbers)) == len(given)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_words_are_what_a_regular_expression_finds(some):
    def split(text: str) -> list[str]:
        return "".join(c if c == "_" or unicodedata.category(c)[0] in "LMN" else " " for c in text.lower()).split(" ")

    counts = [len([word for word in split(text) if word]) for text in some]
    if all(unicodedata.category(c) != "Cn" for text in some for c in text):
        assert np.diff(text_words(pa.array(some, pa.string())).bounds).tolist() == counts
    apart = [documents(text_words(pa.array([text], pa.string())))[0] for text in some]
    assert [n for part in of(*some) for n in part] == [n for part in apart for n in part]


text = st.one_of(st.none(), st.text(st.sampled_from("ab É.-{}7"), max_size=12))
steps = st.builds(
    Step,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=text,
    reasoning=text,
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.just("1"), name=st.sampled_from(["find", "send_mail"]), arguments=text.map(str)),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(steps, max_size=4).map(tuple), max_size=5))
def test_an_episode_is_all_that_was_said_and_done_without_the_system(conversations):
    table = trajectories_table(
        [msgspec.structs.replace(trajectory(str(i)), steps=steps) for i, steps in enumerate(conversations)]
    )
    for part in (table, table.slice(1, 2)):
        with warehouse.connect() as connection:
            connection.register("given", part.select(["id", "steps"]))
            texts = connection.sql(f"SELECT {EPISODE} AS text FROM given ORDER BY id").to_arrow_table()["text"]
        assert documents(episode_words(part["steps"])) == documents(text_words(texts))
