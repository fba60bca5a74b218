"""The quarantine's way in: what is kept of an input that cannot be read."""

from datetime import UTC, datetime

import pytest

from flywheel.capture import quarantine
from flywheel.capture.importers.records import EXCERPT
from flywheel.settings import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["word, " * 10_000, "é, " * 10_000, "x" * 10_000])
def test_of_an_input_that_cannot_be_read_the_beginning_is_kept(desk: Home, text: str) -> None:
    [row] = quarantine.refused(desk, "desk", "gateway", [(None, "no message could be read", text)], NOON)
    assert len(row.excerpt) <= EXCERPT
    assert text.startswith(row.excerpt.removesuffix("…"))
