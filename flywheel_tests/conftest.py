"""Fixtures every test may use: a fresh data folder, and the real captures where they are present."""

import os
import signal
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from flywheel.settings import Home

ROOT = Path(__file__).resolve().parents[1]

# Models of tests are tiny: a second thread costs them more than it gives. Before torch is imported, here or by a child.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells tell what they start in the background to ignore interrupts. Dagster would then ignore SIGTERM too, and so
# would every process that a test starts and ends.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however slow the machine is just now: what fails is a change's doing, not chance's.
# `--hypothesis-profile=default` looks at others.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same")


# Tests of which one process runs all, one after the other: they share a wheel that takes long to turn, or Ray.
TOGETHER = (
    ("flywheel_tests/defs/",),
    ("flywheel_tests/wheel/",),
    ("flywheel_tests/curate/test_cluster.py", "flywheel_tests/corpus/test_object_store.py"),
)


def _group(test: str) -> str:
    """What one process runs, where several share the tests: most often a file."""
    return next((names[0] for names in TOGETHER if test.startswith(names)), test.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups of tests go to whichever process is free."""
    from xdist.scheduler import LoadFileScheduling

    class Groups(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, what takes long begins first, so that all end at about the same time."""
    if hasattr(config, "workerinput"):
        slow = {_group(item.nodeid) for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not item.nodeid.startswith(sum(TOGETHER, ())), _group(item.nodeid) not in slow))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A data folder of the test's own."""
    return Home(tmp_path / "data")


@pytest.fixture
def shared_data() -> Path:
    """Real captures of real agents, kept beside the checkout; the test is skipped where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real captures are not beside this checkout (../shared/data)")
    return folder
