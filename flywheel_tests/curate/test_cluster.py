"""A cluster of two nodes gives what one process gives: the tests of `on_ray`, run in a process of their own."""

import pytest

from flywheel_tests import apart

pytest.importorskip("ray", reason="Ray is not installed: pip install 'flywheel[ray]'")


@pytest.mark.slow
def test_on_ray():
    apart.passes("flywheel_tests/curate/on_ray.py")
