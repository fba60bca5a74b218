"""Out and in again: what a format loses of a record is what its table says, no less and no more."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from flywheel.views.formats import FORMATS
from flywheel.views.graded import Graded, Unfit
from flywheel_tests.views.records import again, differences, graded

READ = [of for of in FORMATS.values() if of.read_by]
# What is made anew whenever a file is read; the metadata gather what a format says beside its turns.
OF_READING = {"id", "source", "source_line", "arrived_at", "metadata"}


@pytest.mark.parametrize("of", READ, ids=lambda of: of.name)
def test_what_is_lost_is_what_is_declared(of) -> None:
    seen: set[str] = set()

    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"

        @settings(max_examples=250, suppress_health_check=list(HealthCheck))
        @given(given=graded())
        def out_and_in(given: Graded) -> None:
            try:
                back = again(of, given, path)
            except Unfit:
                return
            lost = differences(given, back)
            assert lost <= set(of.lost), lost - set(of.lost)
            seen.update(lost)
            # What a format could carry once, it carries for ever.
            assert differences(back, again(of, back, path)) <= OF_READING

        out_and_in()
    assert seen == set(of.lost), set(of.lost) - seen
