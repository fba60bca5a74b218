"""Curation from end to end, from a thousand trajectories up: seconds, memory, and how both grow.

python -m bench.curate [--sizes 1000 3000 10000 30000 100000] [--runs 5] [--peer 5000]
    [--keep FOLDER]

Captures and outcomes are generated; what is measured is everything after them: preparing every row, fingerprints,
the as-of join, the decision on each candidate, the version written. Each run is a process of its own over a folder
in which nothing has been derived yet.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import dedupe, measure, traffic
from flywheel.corpus import decisions
from flywheel.corpus.manifest import manifest
from flywheel.corpus.snapshot import snapshot
from flywheel.curate.spec import NearDuplicates, Spec
from flywheel.settings import Home

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
CORPUS = "bench"
SPEC = Spec(workspace=traffic.WORKSPACE, reward_policy=traffic.POLICY, near_duplicates=NearDuplicates(threshold=0.7))


def folder(root: Path, trajectories: int, seed: int = 0) -> Home:
    """A data folder of so much traffic: the one that is kept there, or one made now."""
    home = Home(root / f"traffic-{trajectories}-{seed}")
    if not (home.root / "planted.parquet").exists():
        shutil.rmtree(home.root, ignore_errors=True)
        measure.apart(traffic.fill, home, trajectories, seed)
    return home


def forget(home: Home) -> None:
    """Remove all that was made of the captures."""
    for made in (home.derived, home.corpora):
        shutil.rmtree(made, ignore_errors=True)


def curate(home: Home) -> dict[str, Any]:
    """One version of all there is; what was decided, by reason."""
    made = snapshot(home, CORPUS, SPEC, traffic.settled())
    return {"candidates": made.candidates, "reasons": made.reasons, "digest": made.digest}


def recall(home: Home) -> float:
    """Of the planted near copies of a similarity of .7 or more that reached the search, the share that is dropped.

    A copy reached it when it, and what it copies, was neither filtered nor without a verdict. One of the two must go.
    """
    decided = pl.from_arrow(decisions.decisions(home, manifest(home, CORPUS)))
    assert isinstance(decided, pl.DataFrame)
    reasons = decided.select("trajectory_id", "reason")
    never = ["pending", "conflicting", "unlabelled", "filtered"]
    searched = reasons.filter(~pl.col("reason").is_in(never))
    dropped = pl.col("reason").is_in(["exact duplicate", "prefix duplicate", "same effects", "near duplicate"])
    pairs = (
        pl.read_parquet(home.root / "planted.parquet")
        .filter((pl.col("kind") == "near") & (pl.col("jaccard") >= 0.7))
        .join(searched.select(id="trajectory_id", copied=dropped), on="id")
        .join(searched.select(original="trajectory_id", other=dropped), on="original")
    )
    return float((pairs["copied"] | pairs["other"]).mean() or 0.0) if len(pairs) else float("nan")


def against(root: Path, size: int, runs: int) -> list[dict[str, Any]]:
    """All of curation, beside datatrove's search for near duplicates alone, on text that was made ready for it."""
    home = folder(root, size)
    ready = dedupe.texts(home)
    bands, rows = (SPEC.near_duplicates or NearDuplicates()).signature
    ways: dict[str, Callable[[], measure.Used]] = {
        "flywheel: rows prepared, outcomes joined, four kinds of duplicates, split, version written": lambda: afresh(
            home
        ),
    }
    if find_spec("datatrove"):
        ways["datatrove: near duplicates alone, by hand (our signature, words by spaces)"] = lambda: measure.apart(
            dedupe.datatrove, ready, bands, rows, True
        )
        if find_spec("spacy"):
            ways["datatrove: near duplicates alone, as it comes (words by spaCy)"] = lambda: measure.apart(
                dedupe.datatrove, ready, None, None, False
            )
    found: dict[str, list[measure.Used]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, work in ways.items():
            found[way].append(work())
    return [
        {
            "way": way,
            "time": measure.timing([u.seconds for u in used]),
            "CPU": measure.timing([u.cpu for u in used]),
            "peak memory": measure.size(max(u.peak for u in used)),
        }
        for way, used in found.items()
    ]


def afresh(home: Home) -> measure.Used:
    """Curation of a folder in which nothing has been derived."""
    forget(home)
    return measure.apart(curate, home)


def slope(sizes: list[int], values: list[float]) -> float:
    """The exponent of growth: the least-squares slope of log value over log size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def run(root: Path, sizes: list[int], runs: int) -> list[dict[str, Any]]:
    """Measure each size; one row each."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        home = folder(root, size)
        used = [afresh(home) for _ in range(runs)]
        reasons = used[0].given["reasons"]
        assert sum(reasons.values()) == used[0].given["candidates"] == size
        assert len({u.given["digest"] for u in used}) == 1
        rows.append(
            {
                "trajectories": size,
                "time": measure.timing([u.seconds for u in used]),
                "CPU": measure.seconds(statistics.median(u.cpu for u in used)),
                "per thousand": measure.seconds(statistics.median(u.seconds for u in used) / size * 1000),
                "peak memory": measure.size(max(u.peak for u in used)),
                "kept": reasons.get("kept", 0) + reasons.get("held out", 0),
                "duplicates": sum(n for reason, n in reasons.items() if "duplicate" in reason or "effects" in reason),
                "recall at .7": recall(home),
                "_": {
                    "seconds": statistics.median(u.seconds for u in used),
                    "cpu": statistics.median(u.cpu for u in used),
                    "peak": max(u.peak for u in used),
                },
            }
        )
        print(rows[-1], flush=True)
    return rows


def growth(rows: list[dict[str, Any]]) -> str:
    """How time, CPU and memory grow: over all sizes, and over the last step, where constants weigh least."""
    if len(rows) < 2:
        return ""
    sizes = [row["trajectories"] for row in rows]
    values = {name: [row["_"][name] for row in rows] for name in ("seconds", "cpu", "peak")}
    overall, last = (
        {name: slope(sizes[-count:], found[-count:]) for name, found in values.items()} for count in (len(rows), 2)
    )
    per_row = (values["peak"][-1] - values["peak"][-2]) / (sizes[-1] - sizes[-2])
    return (
        f"Log-log slope from {sizes[0]:,} to {sizes[-1]:,}: {overall['seconds']:.2f} in time (asked for: at most "
        f"1.1) and {overall['cpu']:.2f} in CPU; from {sizes[-2]:,} on {last['seconds']:.2f} and {last['cpu']:.2f}. "
        f"Peak memory grows by {per_row:,.0f} bytes a trajectory from there on ({last['peak']:.2f}): a decision and "
        "what it is made of is held for each candidate, content is not."
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", type=int, default=5_000, help="the size at which datatrove is beside it")
    parser.add_argument("--keep", type=Path, help="a folder in which generated traffic is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        rows = run(root, options.sizes, options.runs)
        peers = against(root, options.peer, options.runs)
    note = growth(rows)
    measure.write(
        "curate",
        [{column: value for column, value in row.items() if column != "_"} for row in rows],
        title="Whole curation, from captures to a version",
        note=note,
    )
    measure.write(
        "curate-peer",
        peers,
        title=f"Curation of {options.peer:,} trajectories, beside datatrove's MinHash",
        note="Asked for: a third of its time. Recall and precision of both are under near duplicates.",
    )


if __name__ == "__main__":
    main()
