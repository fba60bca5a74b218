"""A wheel that has been turned once, shared by the tests that look at it."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from flywheel.settings import Home
from flywheel.wheel.config import WheelConfig, load
from flywheel.wheel.facts import Facts
from flywheel_tests.wheel import turn


class Turned(NamedTuple):
    """A data folder in which the tiny wheel has turned, and what its stages told."""

    home: Home
    config: WheelConfig
    facts: dict[str, Facts]
    v1_files: dict[str, bytes]


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Turned:
    """One and a half turns; `v1_files` are manifest and decisions of v1 as they were before v2 was made."""
    home = Home(tmp_path_factory.mktemp("wheel") / "data")
    facts = turn.first(home)
    config = load(home)
    v1_files = files_of(home, config, 1)
    return Turned(home, config, facts | turn.half(home), v1_files)


@pytest.fixture
def copied(turned: Turned, tmp_path: Path) -> Turned:
    """The same wheel in a folder of the test's own, to be turned on."""
    shutil.copytree(turned.home.root, tmp_path / "data")
    return turned._replace(home=Home(tmp_path / "data"))


def files_of(home: Home, config: WheelConfig, number: int) -> dict[str, bytes]:
    """Manifest and decisions of a version, byte for byte."""
    folder = home.corpora / config.corpus
    names = (f"versions/v{number}.json", f"decisions/v{number}.parquet")
    return {name: (folder / name).read_bytes() for name in names}
