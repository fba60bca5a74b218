"""Out and in again: what a format loses of a record is what its table says, no less and no more."""

from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings

from flywheel.capture.importers import importer_of
from flywheel.capture.importers.records import Record
from flywheel.schema import FlywheelError
from flywheel.views.formats import FORMATS
from flywheel.views.graded import Graded, Unfit
from flywheel_tests.views.records import ARRIVED, ODD, ODDLY_TOLD, ORDERLY, again, differences, graded

READ = [of for of in FORMATS.values() if of.read_by]
# What is made anew whenever a file is read; the metadata gather what a format says beside its turns.
OF_READING = {"id", "source", "source_line", "arrived_at", "metadata"}


@pytest.mark.parametrize("of", READ, ids=lambda of: of.name)
def test_what_is_declared_is_lost(of, tmp_path: Path):
    lost: set[str] = set()
    for witness in (ODD, ODDLY_TOLD, ORDERLY):
        with suppress(Unfit):
            lost |= differences(witness, again(of, witness, tmp_path / "rows.jsonl"))
    assert lost == set(of.lost)


@pytest.mark.parametrize("of", READ, ids=lambda of: of.name)
def test_nothing_else_is_lost(of):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"

        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        @given(given=graded())
        def out_and_in(given: Graded) -> None:
            try:
                back = again(of, given, path)
            except Unfit:
                return
            assert differences(given, back) <= set(of.lost)
            # What a format could carry once, it carries for ever.
            assert differences(back, again(of, back, path)) <= OF_READING

        out_and_in()


REAL = ("tau-bench", "tau2", "intercode/sql", "langfuse", "openllmetry", "openinference", "claude-code", "sharegpt")


@pytest.mark.parametrize("of", READ, ids=lambda of: of.name)
def test_real_records_lose_no_more(of, shared_data: Path, tmp_path: Path):
    seen = 0
    for name in REAL:
        for path in sorted((shared_data / name).rglob("*.json*"))[:2]:
            try:
                records = list(islice(importer_of(path).read(path, "desk", ARRIVED), 3))
            except FlywheelError:
                continue  # a licence, or an oracle's expectations
            for record in records:
                if not isinstance(record, Record):
                    continue
                heard = {outcome.signal: outcome.value for outcome in record.outcomes}
                given = Graded(trajectory=record.trajectory, reward=heard.get("reward"))
                with suppress(Unfit):
                    assert differences(given, again(of, given, tmp_path / "rows.jsonl")) <= set(of.lost)
                    seen += 1
    assert seen > 15
