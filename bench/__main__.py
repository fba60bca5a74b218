"""All benchmarks, one after the other, and `docs/benchmarks.md` from what they found.

python -m bench [NAME ...] [--page]

Without names all are run, each in a process of its own; `--page` writes the page from what lies in `bench/results`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench import measure
from flywheel import artifacts

# In the order of the page.
BENCHMARKS = (
    "streaming",
    "steps",
    "curate",
    "dedupe",
    "join",
    "versions",
    "whole",
    "search",
    "waiting",
    "redaction",
    "soak",
    "capture",
    "gateway",
)

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `make bench` (`python -m bench`) from what lies in `bench/results`; each section names its command.
Times are medians with the least and the most of the runs; peers run in the same rounds as we do, so a busy
machine is busy for all. Peers come with the extra `bench`, and each is shown by the way it recommends itself and by
the best way that we found by hand. Data is made by `python -m bench.traffic`, the same on every machine. What these
figures say about larger sizes stands in [scale.md](scale.md).
"""


def page() -> str:
    """The page: a section for each result, in the order of `BENCHMARKS`, then of names."""
    names = sorted(
        (path.stem for path in measure.RESULTS.glob("*.json")), key=lambda name: (_place(name.partition("-")[0]), name)
    )
    return "\n\n".join([HEAD.rstrip(), *(measure.section(measure.load(name)) for name in names)]) + "\n"


def _place(module: str) -> int:
    return BENCHMARKS.index(module) if module in BENCHMARKS else len(BENCHMARKS)


def main() -> int:
    """Run, then write the page; the number of benchmarks that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--page", action="store_true", help="run none")
    options = parser.parse_args()
    names = [] if options.page else options.names or BENCHMARKS
    failed = [name for name in names if subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode]
    artifacts.write_bytes(PAGE, page().encode())
    if failed:
        print(f"failed: {', '.join(failed)}; the page has what they found before, if anything", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
