"""The benchmark of durable events measures what it says."""

from bench import capture
from flywheel.capture import workspaces
from flywheel.settings import Home


def test_each_way_of_writing_leaves_what_it_counted(home: Home) -> None:
    workspaces.create(home, capture.WORKSPACE)
    for write in (capture.steps, capture.shared_steps, capture.exchanges):
        assert len(write(home, 0.05, 2)) > 0
    assert all(second > 0 for second in capture.events(home, 0.05, 2))


def test_memory_is_told_early_and_late(home: Home) -> None:
    early, late = capture.remembered(640)
    assert 0 < early <= late * 2
