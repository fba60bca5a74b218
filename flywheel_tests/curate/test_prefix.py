"""Overlapping records of one session."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.curate.prefix import prefixes


def dropped(*conversations: str) -> dict[str, str]:
    """Conversations of one letter a step, best first; the chain is a number for each beginning of one."""
    chains = [[hash(text[: end + 1]) for end in range(len(text))] for text in conversations]
    bounds = np.cumsum([0, *map(len, chains)])
    numbers = np.array([n for chain in chains for n in chain], np.int64)
    places, originals = prefixes(numbers, bounds[:-1], np.diff(bounds))
    return {f"{place}:{conversations[place]}": conversations[of] for place, of in zip(places, originals, strict=True)}


def test_the_best_record_of_a_session_stays():
    assert dropped("abcd", "abc", "ab", "x") == {"1:abc": "abcd", "2:ab": "abcd"}
    assert dropped("ab", "abc", "abcd") == {"1:abc": "ab", "2:abcd": "ab"}
    assert dropped("abc", "abc", "a") == {"1:abc": "abc", "2:a": "abc"}


def test_two_continuations_of_one_beginning_are_no_duplicates():
    assert dropped("abx", "aby", "ab") == {"2:ab": "abx"}
    assert dropped("ab", "abx", "aby") == {"1:abx": "ab", "2:aby": "ab"}


def test_a_dropped_row_drops_nothing():
    """The beginning goes for its better continuation, and the other continuation stays."""
    assert dropped("abx", "a", "acy", "ac") == {"1:a": "abx", "3:ac": "acy"}


def test_nothing_is_no_beginning():
    assert dropped("", "a", "") == {}
    assert dropped() == {}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=6), max_size=14))
def test_rounds_choose_what_one_by_one_would(conversations):
    kept: list[str] = []
    expected = {}
    for place, text in enumerate(conversations):
        related = [k for k in kept if k and text and (k.startswith(text) or text.startswith(k))]
        if related:
            expected[f"{place}:{text}"] = related[0]
        else:
            kept.append(text)
    assert dropped(*conversations) == expected
