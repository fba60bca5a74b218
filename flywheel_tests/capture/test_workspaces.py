"""Workspaces are created once, listed in order, and asked for by name."""

from datetime import UTC, datetime

import pytest

from flywheel.capture import workspaces
from flywheel.schema import FlywheelError
from flywheel.settings import Home


def test_create_list_and_create_again(home: Home) -> None:
    first = datetime(2026, 1, 5, tzinfo=UTC)
    made = workspaces.create(home, "support", now=first)
    workspaces.create(home, "airline")
    assert workspaces.create(home, "support") == made
    assert made.created_at == first
    assert workspaces.names(home) == ["airline", "support"]
    assert [w.name for w in workspaces.all_workspaces(home)] == ["airline", "support"]


def test_an_unknown_workspace_is_an_error_that_says_how_to_create_it(home: Home) -> None:
    workspaces.create(home, "support")
    with pytest.raises(FlywheelError, match="flywheel workspace create sales"):
        workspaces.require(home, "sales")


@pytest.mark.parametrize("name", ["", "../up", "a b", "x" * 65, "-x", "o'brien"])
def test_a_name_that_is_not_safe_everywhere_is_refused(home: Home, name: str) -> None:
    with pytest.raises(FlywheelError, match="not usable"):
        workspaces.create(home, name)
