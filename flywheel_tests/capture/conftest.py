"""A workspace to capture into."""

import pytest

from flywheel.capture import workspaces
from flywheel.settings import Home


@pytest.fixture
def desk(home: Home) -> Home:
    """A data folder with a workspace named `desk`."""
    workspaces.create(home, "desk")
    return home
