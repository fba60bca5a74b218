"""A new version after a few late outcomes, against building it from nothing: time, bytes written, equal content.

python -m bench.versions [--trajectories 100000] [--late 0.001] [--runs 5] [--keep FOLDER]

The first version stands; then late outcomes touch a thousandth of the trajectories. The next version is made beside it,
and once more in a folder where nothing was ever derived. Both must have the same digest, of rows and of decisions.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import lance  # noqa: F401  # so that its import is not part of what is measured

from bench import curate, measure, traffic
from flywheel.corpus.snapshot import snapshot
from flywheel.settings import Home

SECONDS, BYTES = "seconds", "bytes"


def first(home: Home) -> str:
    """A version from before the late outcomes."""
    return snapshot(home, curate.CORPUS, curate.SPEC, traffic.settled()).digest


def second(home: Home) -> tuple[str, str, bool]:
    """The version that has heard of them: its digests, and whether it was made now."""
    made = snapshot(home, curate.CORPUS, curate.SPEC, traffic.later())
    return made.digest, made.decisions_digest, made.created


def afresh(home: Home, root: Path) -> Home:
    """A data folder with the same captures and outcomes, and nothing made of them."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for given in (home.captures, home.outcomes, home.workspaces):
        (root / given.name).symlink_to(given, target_is_directory=True)
    return Home(root)


def made_of(home: Home) -> int:
    """Bytes of all that was made of captures and outcomes."""
    return sum(measure.bytes_under(folder) for folder in (home.derived, home.corpora))


def run(root: Path, trajectories: int, late: float, runs: int, rebuilds: int) -> tuple[list[dict[str, Any]], str]:
    """The rows of the table, and what they come to."""
    source = curate.folder(root, trajectories)
    found: dict[str, list[tuple[measure.Used, int]]] = {"from nothing": [], "after late outcomes": [], "unchanged": []}
    with tempfile.TemporaryDirectory(dir=source.root.parent) as temporary:
        home = afresh(source, Path(temporary) / "standing")
        # A ledger of its own, so that what is kept for other benchmarks stays as it is.
        home.outcomes.unlink()
        shutil.copytree(source.outcomes, home.outcomes)
        touched = traffic.late(home, trajectories, late)
        measure.apart(first, home)
        saved = Path(temporary) / "saved"
        shutil.copytree(home.corpora, saved)
        for _ in range(runs):
            shutil.rmtree(home.corpora)
            shutil.copytree(saved, home.corpora)
            for name in ("after late outcomes", "unchanged"):
                before = made_of(home)
                found[name].append((measure.apart(second, home), made_of(home) - before))
        for _ in range(rebuilds):
            other = afresh(home, Path(temporary) / "fresh")
            found["from nothing"].append((measure.apart(second, other), made_of(other)))
    digests = {used.given[:2] for runs_of in found.values() for used, _ in runs_of}
    assert len(digests) == 1, f"an incremental version differs from a full one: {digests}"
    assert all(used.given[2] for used, _ in found["after late outcomes"])
    assert not any(used.given[2] for used, _ in found["unchanged"])
    whole = _medians(found["from nothing"])
    rows: list[dict[str, Any]] = []
    for name, runs_of in found.items():
        took = _medians(runs_of)
        rows.append(
            {
                "version": name,
                "time": measure.timing([used.seconds for used, _ in runs_of]),
                "of a full build": f"{took[SECONDS] / whole[SECONDS]:.1%}",
                "CPU": measure.seconds(statistics.median(used.cpu for used, _ in runs_of)),
                "peak memory": measure.size(max(used.peak for used, _ in runs_of)),
                "bytes written": measure.size(took[BYTES]),
                "of its bytes": f"{took[BYTES] / whole[BYTES]:.2%}",
            }
        )
    note = (
        f"{trajectories:,} trajectories; {touched:,} late outcomes. All ways end in the same digests of rows and of "
        "decisions. Asked for: 2 % of the time and of the bytes of a full build."
    )
    return rows, note


def _medians(runs_of: list[tuple[measure.Used, int]]) -> dict[str, float]:
    return {
        SECONDS: statistics.median(used.seconds for used, _ in runs_of),
        BYTES: statistics.median(written for _, written in runs_of),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=100_000)
    parser.add_argument("--late", type=float, default=0.001)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rebuilds", type=int, default=3, help="how often it is built from nothing")
    parser.add_argument("--keep", type=Path, help="a folder in which generated traffic is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        rows, note = run(root, options.trajectories, options.late, options.runs, options.rebuilds)
    name = "versions" if options.trajectories <= 100_000 else f"versions-{options.trajectories}"
    measure.write(name, rows, title="A new version after late outcomes", note=note)


if __name__ == "__main__":
    main()
