"""A version is named NAME@vN, by its branch or by a tag; NAME alone is its newest on main."""

import pytest

from flywheel.corpus.reference import parse
from flywheel.schema import FlywheelError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("support@v3", ("support", 3)),
        ("support@12", ("support", 12)),
        ("support", ("support", None)),
        ("support@latest", ("support", None)),
        ("support@strict", ("support", "strict")),
        ("support@vintage", ("support", "vintage")),
    ],
)
def test_references(text, parsed):
    assert parse(text) == parsed


@pytest.mark.parametrize("text", ["", "@v1", "support@", "support@v1@v2", "../support@v1", "support@../v1"])
def test_anything_else_is_refused(text):
    with pytest.raises(FlywheelError):
        parse(text)
