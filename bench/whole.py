"""From captures to a streamed corpus: a version, its tokens, and an epoch of shuffled batches, with time and memory.

python -m bench.whole [--trajectories 1000000] [--processes 2] [--keep FOLDER]

Each part is a process of its own over what the former left. The tokenizer is made of what the first rows say, with as
many words as a small policy has; conversations are cut into windows of at most 4,096 tokens. The epoch reads every
window once, padded, in batches of 32, and counts what is trained on: it must be what tokenising promised.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from bench import curate, measure, traffic
from flywheel.corpus import store
from flywheel.corpus.manifest import manifest
from flywheel.corpus.streaming.dataset import CorpusBatches, CorpusLoader
from flywheel.corpus.streaming.sequences import IGNORED
from flywheel.corpus.streaming.stream import steps_of, stream, tokens_of
from flywheel.settings import Home
from flywheel.train import tokenizer
from flywheel.views.chatml import spans

MAX_TOKENS = 4096
BATCH = 32
# Rows of which the vocabulary is made.
LEARNED = 2000


def learned(home: Home, folder: Path) -> None:
    """A tokenizer of what the first rows say."""
    rows = next(store.batches(home, manifest(home, curate.CORPUS), "train", ["steps", "tools"], size=LEARNED))
    texts = ["".join(span.text for span in spans(steps_of(row), row["tools"])) for row in rows.to_pylist()]
    tokenizer.build([], texts).save_pretrained(folder)


def tokenise(home: Home, folder: Path, processes: int) -> dict[str, Any]:
    """Tokenise what is trained on; what became of the rows, and the bytes that hold it."""
    from transformers import AutoTokenizer

    of = manifest(home, curate.CORPUS)
    _, told = tokens_of(home, of, AutoTokenizer.from_pretrained(folder), MAX_TOKENS, processes=processes)
    kept = (home.mapped / traffic.WORKSPACE).glob("tokens-*")
    return msgspec.to_builtins(told) | {"bytes": sum(map(measure.bytes_under, kept))}


def epoch(home: Home, folder: Path) -> dict[str, Any]:
    """All batches of one epoch."""
    from transformers import AutoTokenizer

    of = manifest(home, curate.CORPUS)
    sequences, _ = tokens_of(home, of, AutoTokenizer.from_pretrained(folder), MAX_TOKENS)
    found = {"windows": 0, "tokens": 0, "trained": 0}
    for batch in CorpusLoader(CorpusBatches(sequences, batch=BATCH)):
        found["windows"] += len(batch["input_ids"])
        found["tokens"] += int(batch["attention_mask"].sum())
        found["trained"] += int((batch["labels"] != IGNORED).sum())
    return found


def read(home: Home) -> int:
    """All rows of one epoch, whole, as a plain loop reads them."""
    return sum(1 for _ in stream(home, curate.CORPUS))


def run(root: Path, trajectories: int, processes: int) -> tuple[list[dict[str, Any]], str]:
    """A row for each part, and what they come to."""
    home = curate.folder(root, trajectories)
    curate.forget(home)
    folder = root / f"tokenizer-{trajectories}"
    version = measure.apart(curate.curate, home)
    measure.apart(learned, home, folder)
    tokenised = measure.apart(tokenise, home, folder, processes)
    batches = measure.apart(epoch, home, folder)
    rows = measure.apart(read, home)
    of = manifest(home, curate.CORPUS)
    told = tokenised.given
    assert version.given["candidates"] == trajectories
    assert rows.given == told["rows"] == of.splits["train"]
    assert batches.given == {
        "windows": told["windows"],
        "tokens": told["tokens"],
        "trained": told["trained_tokens"],
    }
    parts = {
        "captures to a version": (version, trajectories),
        f"its rows as tokens, {processes} processes": (tokenised, told["rows"]),
        "an epoch of token batches": (batches, told["windows"]),
        "an epoch of whole rows": (rows, rows.given),
    }
    return [
        {
            "part": part,
            "rows": count,
            "time": measure.seconds(used.seconds),
            "rows/s": round(count / used.seconds),
            "peak memory": measure.size(used.peak),
        }
        for part, (used, count) in parts.items()
    ], (
        f"{of.rows:,} rows are kept, {told['rows']:,} of them to train on: {told['tokens']:,} tokens in "
        f"{told['windows']:,} windows, {told['trained_tokens']:,} of them trained, {measure.size(told['bytes'])} on "
        f"disk; dropped: {told['dropped'] or 'none'}. Once each: a part that failed would be seen in the next. "
        "Memory is that of the process that was asked; those that share the tokenising hold a batch each."
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder in which generated traffic is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows, note = run(options.keep or Path(temporary), options.trajectories, options.processes)
    measure.write(
        "whole", rows, title=f"{options.trajectories:,} trajectories, from captures to a streamed corpus", note=note
    )


if __name__ == "__main__":
    main()
