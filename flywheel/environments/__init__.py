"""Environments: tasks to act on, with states that fork and checkers that prove themselves."""

from __future__ import annotations

from flywheel.environments.desk import DESK
from flywheel.environments.files import FILES
from flywheel.environments.templates import TemplateEnvironment
from flywheel.schema import FlywheelError

_ALL = {environment.name: environment for environment in (DESK, FILES)}


def names() -> tuple[str, ...]:
    """The environments that ship, in alphabetical order."""
    return tuple(sorted(_ALL))


def get(name: str) -> TemplateEnvironment:
    """An environment by its name.

    Raises:
        FlywheelError: when there is none of that name.
    """
    if name not in _ALL:
        raise FlywheelError(f"there is no environment {name!r}; there are: {', '.join(names())}")
    return _ALL[name]
