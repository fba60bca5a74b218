"""Near duplicates among the texts of trajectories, against datatrove's MinHash: time, recall and precision.

python -m bench.dedupe [--trajectories 5000] [--threshold 0.7] [--runs 1] [--keep FOLDER]

The peer comes with the extra `bench`; without it our own figures are made alone. Both read the same text from the same
file and use one core; datatrove's own words take it about 10 ms a trajectory. What is alike is known: copies were
planted, and their similarity was measured where they were made.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from bench import measure, traffic
from flywheel import warehouse
from flywheel.curate import minhash
from flywheel.curate.near import near
from flywheel.curate.spec import NearDuplicates
from flywheel.curate.words import text_words
from flywheel.schema import TRAJECTORIES
from flywheel.settings import Home

# Rows of text worked on at a time.
BATCH = 4096

# A row that is dropped, and the one that is kept for it.
Dropped = dict[int, int]


def texts(home: Home) -> Path:
    """The text of each captured trajectory in a file: columns id (text) and text, in the order of ids."""
    path = home.root / "texts" / "texts.parquet"
    if not path.exists():
        path.parent.mkdir()
        with warehouse.connect() as connection:
            scan = warehouse.scan_sql(home.captures, TRAJECTORIES, traffic.WORKSPACE)
            query = f"SELECT id, {traffic.EPISODE} AS text FROM {scan} ORDER BY id"
            connection.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def ours(path: Path, threshold: float) -> Dropped:
    """The near duplicates as the corpus finds them: of rows that are alike the first stays."""
    settings = NearDuplicates(threshold=threshold)
    with pq.ParquetFile(path) as file:
        prints = pa.concat_tables(
            minhash.fingerprints(text_words(batch["text"]), settings)
            for batch in file.iter_batches(BATCH, columns=["text"])
        )
    n_runs = prints["n_runs"].to_numpy()
    buckets = prints["buckets"].combine_chunks().flatten().to_numpy().reshape(len(n_runs), -1)

    def fetch(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = pl.scan_parquet(path).select("text").with_row_index("place").filter(pl.col("place").is_in(places))
        return minhash.runs(text_words(wanted.collect()["text"].to_arrow()), settings.shingle)

    found = near(buckets, np.zeros(len(n_runs), np.int64), n_runs, threshold, fetch)
    return dict(zip(found.places.tolist(), found.originals.tolist(), strict=True))


class Split:
    """The words of text without punctuation, where there are spaces between them."""

    word_tokenize = staticmethod(str.split)


def datatrove(path: Path, bands: int | None, rows: int | None, by_hand: bool) -> Dropped:
    """The same by datatrove: its own signature and words, or (by hand) one that is given, and words without spaCy.

    The last stage, which copies the documents that are kept, is left out.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from loguru import logger

    logger.disable("datatrove")
    config = (
        MinhashConfig() if bands is None or rows is None else MinhashConfig(num_buckets=bands, hashes_per_bucket=rows)
    )
    with tempfile.TemporaryDirectory() as folder:
        sign = MinhashDedupSignature(f"{folder}/signatures", config)
        if by_hand:
            sign.word_tokenizer = Split()
        stages: list[tuple[list[Any], int]] = [
            ([ParquetReader(str(path.parent)), sign], 1),
            ([MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config)], config.num_buckets),
            ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/found", config, save_cluster_id=True)], 1),
        ]
        for number, (pipeline, tasks) in enumerate(stages):
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}").run()
        removed = {row for (row,) in struct.iter_unpack("<I", Path(f"{folder}/found/000000.remove").read_bytes())}
        clusters = dict(struct.iter_unpack("<II", Path(f"{folder}/found/000000.clusters").read_bytes()))
        stays = {cluster: row for row, cluster in clusters.items() if row not in removed}
        return {row: stays[clusters[row]] for row in removed}


def judged(home: Home, path: Path, dropped: Dropped, threshold: float) -> dict[str, float]:
    """Recall over the planted near copies, and precision over what was dropped, both measured apart from either way.

    A pair is found when one of it is dropped. A dropped row is rightly so when it is as near as asked to a row that
    stays for it.
    """
    frame = pl.read_parquet(path)
    place = {id: row for row, id in enumerate(frame["id"])}
    pairs = pl.read_parquet(home.root / "planted.parquet").filter(
        (pl.col("kind") == "near") & (pl.col("jaccard") >= threshold)
    )
    found = [
        place[id] in dropped or place[original] in dropped for id, original in pairs.select("id", "original").rows()
    ]
    just = (pairs["jaccard"] < threshold + 0.05).to_numpy()

    def runs(row: int) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", frame["text"][row].lower())
        return set(zip(*(words[n:] for n in range(5)), strict=False)) or {tuple(words)}

    right = [near_by(runs(row), runs(original)) >= threshold for row, original in dropped.items()]
    return {
        "planted pairs": len(found),
        "recall": float(np.mean(found)),
        "recall just above": float(np.mean(np.array(found)[just])),
        "dropped": len(dropped),
        "precision": float(np.mean(right)),
    }


def near_by(one: set[Any], other: set[Any]) -> float:
    """Jaccard similarity."""
    return len(one & other) / max(len(one | other), 1)


def ways(threshold: float) -> Iterable[tuple[str, Callable[..., Dropped], tuple[Any, ...]]]:
    """Who does the work: a name, the function, and what it takes after the file."""
    bands, rows = NearDuplicates(threshold=threshold).signature
    yield f"flywheel, {bands} bands of {rows}, each pair verified", ours, (threshold,)
    if importlib.util.find_spec("datatrove"):
        yield "datatrove, as it comes (14 of 8, words by spaCy)", datatrove, (None, None, False)
        yield f"datatrove, by hand ({bands} of {rows}, words by spaces)", datatrove, (bands, rows, True)
    else:
        print("datatrove is not installed: pip install -e '.[bench]' to have it measured too")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=5_000)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder in which generated traffic is kept for the next time")
    options = parser.parse_args()
    # One core each: datatrove's workers are processes, ours are these.
    os.environ |= dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    result: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Home((options.keep or Path(temporary)) / f"traffic-{options.trajectories}-0")
        if not (home.root / "planted.parquet").exists():
            shutil.rmtree(home.root, ignore_errors=True)
            measure.apart(traffic.fill, home, options.trajectories, 0)
        path = texts(home)
        for name, work, arguments in ways(options.threshold):
            used = [measure.apart(work, path, *arguments) for _ in range(options.runs)]
            result.append(
                {
                    "": name,
                    "time": measure.timing([u.seconds for u in used]),
                    "CPU": measure.timing([u.cpu for u in used]),
                    "peak memory": measure.size(max(u.peak for u in used)),
                    **judged(home, path, used[0].given, options.threshold),
                }
            )
            print(result[-1], flush=True)
    measure.write(
        "dedupe",
        result,
        title=f"Near duplicates among {options.trajectories:,} trajectories",
        note=(
            f"Pairs count from a Jaccard similarity of {options.threshold} over runs of five words on; just above is "
            "up to .05 more. One core each. datatrove drops what shares a bucket without comparing it, joins chains of "
            "such pairs, and takes all numbers for one: by its own idea of the same its precision is higher. The time "
            "of its last stage, which writes the documents that stay, is not in the figure."
        ),
    )


if __name__ == "__main__":
    main()
