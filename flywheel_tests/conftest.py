"""Fixtures every test may use: a fresh data folder, and the real captures where they are present."""

from pathlib import Path

import pytest

from flywheel.settings import Home

ROOT = Path(__file__).resolve().parents[1]


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
