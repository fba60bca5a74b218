"""What an extra would bring is asked for by name where it is not installed."""

import sys

import pytest

from flywheel import settings
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel_tests.corpus.conftest import MONDAY, SPEC, trajectory, write


def test_ray(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    write(home, [trajectory(1)])
    with pytest.raises(FlywheelError, match=r"pip install 'flywheel\[ray\]', or leave --engine out"):
        snapshot(home, "support", SPEC, MONDAY, engine="ray")


def test_an_object_store(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("FLYWHEEL_STORE", "s3://bucket/wheel")
    with pytest.raises(FlywheelError, match=r"not installed \(s3fs\); .*pip install 'flywheel\[s3\]'"):
        settings.home()


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", "/folder", "s3://bucket/it's"])
def test_another_address_than_that_of_an_object_store(url, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_STORE", url)
    with pytest.raises(FlywheelError, match="write it as s3://BUCKET/PREFIX"):
        settings.home()
