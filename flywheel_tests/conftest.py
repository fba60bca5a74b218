"""Fixtures every test may use: a fresh data folder, and the real captures where they are present."""

import os
from pathlib import Path

import hypothesis
import pytest

from flywheel.settings import Home

ROOT = Path(__file__).resolve().parents[1]

# Models of tests are tiny: a second thread costs them more than it gives. Before torch is imported, here or by a child.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however slow the machine is just now: what fails is a change's doing, not chance's.
# `--hypothesis-profile=default` looks at others.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests: those of a file stay together, and those of a folder's turned wheel.

    What takes long begins first, so that the processes end at about the same time.
    """
    if not hasattr(config, "workerinput"):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_group(item), []).append(item)

    def weight(name: str) -> tuple[bool, bool]:
        return (ROOT / name).is_dir(), any(item.get_closest_marker("slow") for item in groups[name])

    items[:] = [item for name in sorted(groups, key=weight, reverse=True) for item in groups[name]]


def _group(item: pytest.Item) -> str:
    """The tests that one process runs, one after the other: those that a mark names, or of a folder, or of a file."""
    if mark := item.get_closest_marker("xdist_group"):
        return mark.args[0]
    place = item.path.parent if "turned" in getattr(item, "fixturenames", ()) else item.path
    name = place.relative_to(ROOT).as_posix()
    item.add_marker(pytest.mark.xdist_group(name))
    return name


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
