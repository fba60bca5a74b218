"""Malformed inputs by seed: no crash, and in is kept and quarantined."""

from pathlib import Path

from flywheel.capture.importers import FORMATS
from flywheel_tests import fuzz


def test_every_format_has_seeds_that_it_reads(tmp_path: Path) -> None:
    assert sorted(fuzz.SEEDS) == sorted(FORMATS)
    for name, seeds in fuzz.SEEDS.items():
        assert [fuzz.through_importer(tmp_path, name, data) for data in seeds] == ["read"] * len(seeds)
        assert fuzz.through_ingest(tmp_path, name, seeds[0]) == "stored"


def test_whatever_comes_in_is_kept_or_told(tmp_path: Path) -> None:
    counts = fuzz.run(tmp_path, cases=900, seed=1)
    assert sum(count for name, count in counts.items() if name.startswith("importer ")) == 720
    assert sum(count for name, count in counts.items() if name.startswith("route ")) == 180
    for route in fuzz.ROUTES:
        assert counts[f"route {route.path} {route.media}: 200"] or route.path.endswith(
            "/github"
        )  # those are not signed
