"""Strict JSON: two programs never read the same bytes in two ways, and nothing nested deeply falls over."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.capture import strict
from flywheel.schema import FlywheelError

NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_json_is_read_as_it_is(value: object) -> None:
    assert strict.value(json.dumps(value).encode(), 200) == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b'{"a": 1, "b": {"x": 1, "x": 2}}', "the key 'x' stands twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b"[1e999]", "too large"),
        (b"[9223372036854775808]", "does not fit 64 bits"),
        (b"[" + b"9" * 100_000 + b"]", "does not fit 64 bits"),
        (b'"\xff"', "not UTF-8: byte 1"),
        (b'\xef\xbb\xbf{"a": 1}', "no JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": 1', "no JSON"),
        (b"", "no JSON"),
        (b"[1] [2]", "Extra data"),
        (b"[" * 4 + b"]" * 4, "more than 3"),
        (b'[{"a": [{"b": 1}]}]', "more than 3"),
        (b"[" * 100_000, "more than 3"),
        (b"[" * 100_000 + b"]" * 100_000, "more than 3"),
    ],
)
def test_what_is_no_json_or_too_much_is_refused(text: bytes, wrong: str) -> None:
    with pytest.raises(FlywheelError, match=wrong):
        strict.value(text, 3)


def test_brackets_within_strings_are_not_nested() -> None:
    assert strict.value(rb'["[[[[\"[[", {"{{{{": "\\"}, []]', 2) == ['[[[["[[', {"{{{{": "\\"}, []]
