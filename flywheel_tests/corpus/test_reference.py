"""A version is named NAME@vN; NAME alone is its newest."""

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
    ],
)
def test_references(text, parsed):
    assert parse(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "@v1", "support@", "support@v0", "support@v1@v2", "../support@v1", "support@newest"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(FlywheelError):
        parse(text)
