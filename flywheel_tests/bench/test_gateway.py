"""A few streams both ways, and a few calls without a pause."""

from pathlib import Path

import pytest

from bench import gateway


@pytest.mark.slow
def test_both_ways_are_measured(tmp_path: Path):
    found = gateway.run(tmp_path / "data", rounds=1, requests=40, streams=4)

    calls, events = 4 * gateway.TURNS, 4 * gateway.TURNS * (gateway.EVENTS + 1)
    for took in found.took.values():
        assert (len(took.first), len(took.events), len(took.end)) == (calls, events, calls)
        assert min(took.events) > 0
    assert len(found.held) == 11
    assert found.rate > 0
