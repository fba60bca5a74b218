"""A version's key names its as-of time; the same as-of is the same version."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.schema import FlywheelError
from flywheel.wheel.versions import Version, among, following, parse

NOON = datetime(2026, 11, 9, 12, tzinfo=UTC)


def test_a_key_names_number_and_as_of():
    assert Version(1, NOON).key == "v1-20261109T120000Z"
    assert parse("v1-20261109T120000Z") == Version(1, NOON)


def test_the_first_version_is_v1_and_a_later_moment_is_the_next():
    assert following([], NOON).key == "v1-20261109T120000Z"
    assert following(["v1-20261109T120000Z"], NOON + timedelta(hours=1)).key == "v2-20261109T130000Z"


def test_the_same_moment_is_the_version_that_is_known():
    known = ["v1-20261109T120000Z", "v2-20261109T130000Z"]
    assert following(known, NOON + timedelta(microseconds=5)) == Version(1, NOON)


def test_v10_comes_after_v9():
    known = [Version(n, NOON + timedelta(days=n)).key for n in range(1, 11)]
    assert max(parse(key) for key in known).number == 10
    assert following(known, NOON).number == 11


def test_versions_are_found_among_other_names_in_order():
    names = ["v10-20261109T120000Z", "support", "v2-20261109T120000Z", "vllm", ".v3-20261109T120000Z.old"]
    assert among(names) == [Version(2, NOON), Version(10, NOON)]


@pytest.mark.parametrize("key", ["", "v1", "1-20261109T120000Z", "v1-20261109T120000Z/..", "v1-20261109"])
def test_another_form_is_refused(key):
    with pytest.raises(FlywheelError, match="names no version"):
        parse(key)
