"""Shuffled batches to torch, as tokens and as text, against Deep Lake, HF datasets, MosaicML streaming and a memmap.

python -m bench.streaming [--rows 100000] [--batch 32] [--runs 5] [--seconds 6]

Every way reads the same rows of about 800 tokens, each with a mask of what is trained on, or of about 4,000 characters.
A batch of tokens is what a causal model trains on: input_ids, labels and attention_mask, int64, padded; all ways
fill it by the same function. A batch of text is a list of strings. Peers run by the way that they recommend (`own`),
and by the best that we found by hand: neighbours read a block at a time, several blocks mixed, as our stream does. The
limit is a numpy memmap, whose rows are read in any order, or by blocks. A run lasts a number of seconds; all files are
in the page cache. Peers are left out where they are not installed.

Deep Lake and HF datasets come with the extra `bench`. MosaicML streaming asks for a numpy and a transformers older than
ours; it does run with ours: pip install --no-deps mosaicml-streaming==0.13.0
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from bench import measure
from flywheel.corpus.streaming import segments, sequences, texts, tokens
from flywheel.corpus.streaming.dataset import CorpusBatches, CorpusLoader
from flywheel.corpus.streaming.order import BLOCK, WINDOW, Order
from flywheel.corpus.streaming.sequences import Sequences
from flywheel.corpus.streaming.texts import Texts

Array = np.ndarray[Any, Any]
# A stream of batches without end.
Way = Callable[[], Iterator[Any]]

VOCABULARY = 50_000
SEGMENT_ROWS = 8192
# Deep Lake and HF datasets are written so many rows at a time.
WRITTEN = 4096
PACK = 4096


class Rows:
    """Rows made from a seed, in memory: token ids with what the assistant wrote, and texts."""

    def __init__(self, count: int) -> None:
        chance = np.random.default_rng(0)
        self.count = count
        self.lengths = np.clip(chance.normal(800, 250, count), 100, 1600).astype(np.int64)
        self.edges = np.concatenate([[0], np.cumsum(self.lengths)])
        self.ids = chance.integers(0, VOCABULARY, self.edges[-1], dtype=np.int32)
        # Turns of 50 tokens, every third of them the assistant's.
        self.wrote = (np.arange(self.edges[-1]) // 50 % 3 == 2).astype(np.int8)
        self.wrote[self.edges[:-1]] = 0
        words = np.array(["".join(chr(97 + d) for d in chance.integers(0, 26, 1 + n % 8)) for n in range(VOCABULARY)])
        self.texts = [" ".join(words[self.ids[a:b]]) for a, b in itertools.pairwise(self.edges)]

    def token_rows(self, start: int, stop: int) -> tuple[list[Array], list[Array]]:
        """Ids and masks of some rows."""
        bounds = list(itertools.pairwise(self.edges[start : stop + 1]))
        return [self.ids[a:b] for a, b in bounds], [self.wrote[a:b] for a, b in bounds]


def collate(ids: Sequence[Array], wrote: Sequence[Array]) -> dict[str, torch.Tensor]:
    """A batch of rows as what a model trains on."""
    shape = (len(ids), max(map(len, ids)))
    filled, said, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int8), np.zeros(shape, np.int64)
    for row, (some, by) in enumerate(zip(ids, wrote, strict=True)):
        filled[row, : len(some)] = some
        said[row, : len(some)] = by
        mask[row, : len(some)] = 1
    labels = np.where(said > 0, filled, -100)
    made = {"input_ids": filled, "labels": labels, "attention_mask": mask}
    return {name: torch.from_numpy(array) for name, array in made.items()}


def collate_rows(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The same of rows as dicts, as torch's loaders hand them over."""
    return collate([np.asarray(row["ids"]) for row in rows], [np.asarray(row["wrote"]) for row in rows])


def texts_of(rows: list[dict[str, Any]]) -> list[str]:
    """The texts of rows as dicts."""
    return [str(row["text"]) for row in rows]


def mixed(count: int, batch: int, read: Callable[[int, int], list[Any]]) -> Iterator[list[Any]]:
    """Lists of `batch` rows by blocks, without end: some blocks are read, each as neighbours, and their rows mixed.

    As many rows are mixed at a time, of as large blocks, as our stream mixes.
    """
    left: list[Any] = []
    for epoch in itertools.count():
        chance = np.random.default_rng(epoch)
        starts = chance.permutation(np.arange(0, count, BLOCK)).tolist()
        for first in range(0, len(starts), WINDOW):
            # The last rows go first, and as they were made, so that the next take their room.
            held: list[Any] = []
            for start in starts[first : first + WINDOW]:
                held += read(start, min(start + BLOCK, count))
            order = chance.permutation(len(held)).tolist()
            ends = range(batch - len(left), len(held) + 1, batch)
            for end in ends:
                made = left + [held[index] for index in order[max(end - batch, 0) : end]]
                left = []
                yield made
                del made
            left += [held[index] for index in order[ends[-1] if ends else 0 :]]


def loaded(dataset: Any, batch: int, collated: Callable[[list[Any]], Any], workers: int, **options: Any) -> Way:
    """A loader of torch over a dataset, epoch after epoch."""
    context = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    loader = DataLoader(dataset, batch, collate_fn=collated, num_workers=workers, **context, **options)
    return lambda: (made for _ in itertools.count() for made in loader)


# Ours


def our_tokens(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The stream's own loader over segments; without workers, since it is the collation that takes the time."""
    names = [f"{n:09}" for n in range(rows.count)]
    for start in range(0, rows.count, SEGMENT_ROWS):
        stop = min(start + SEGMENT_ROWS, rows.count)
        ids, wrote = rows.token_rows(start, stop)
        trained = [int(by.sum()) for by in wrote]
        constant = {"window": 0, "n_calls": 0, "left_out": 0, "dropped": None}
        columns = {name: [value] * (stop - start) for name, value in constant.items()} | {
            "content_digest": names[start:stop],
            "n_tokens": rows.lengths[start:stop],
            "n_trained": trained,
            "n_answers": trained,
            "input_ids": ids,
            "wrote": wrote,
        }
        made = pa.table([pa.array(columns[f.name], f.type) for f in tokens.SEGMENT], schema=tokens.SEGMENT)
        segments.write(folder, made)
    files = segments.files(folder)
    keys = pa.table({"trajectory_id": names, "content_digest": names})
    held = Sequences("bench", files, sequences.find(files, keys))

    def stream(**options: Any) -> Way:
        return lambda: _endless(CorpusLoader(CorpusBatches(held, **options)))

    each = int(rows.lengths.mean())
    return {"flywheel": stream(batch=batch), "flywheel, packed": stream(batch=batch * each // PACK, pack=PACK)}


def our_texts(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The same over texts."""
    names = [f"{n:09}" for n in range(rows.count)]
    for start in range(0, rows.count, SEGMENT_ROWS):
        some = rows.texts[start : start + SEGMENT_ROWS]
        segments.write(folder, texts.segment(names[start : start + len(some)], [text.encode() for text in some]))
    files = segments.files(folder)
    keys = pa.table({"trajectory_id": names, "content_digest": names})
    held = Texts("bench", files, texts.find(files, keys))
    loader = CorpusLoader(CorpusBatches(held, batch=batch))
    return {"flywheel": lambda: map(itemgetter("text"), _endless(loader))}


def _endless(loader: CorpusLoader) -> Iterator[Any]:
    while True:
        yield from loader


# The limit


def memmap_tokens(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """Flat files and where each row begins, with nothing around them."""
    folder.mkdir()
    rows.ids.tofile(folder / "ids")
    rows.wrote.tofile(folder / "wrote")
    # As plain arrays: slices of a memmap object cost a microsecond each.
    ids = np.asarray(np.memmap(folder / "ids", np.int32, "r"))
    wrote = np.asarray(np.memmap(folder / "wrote", np.int8, "r"))

    def read(positions: Array) -> dict[str, torch.Tensor]:
        bounds = list(zip(rows.edges[positions].tolist(), rows.edges[positions + 1].tolist(), strict=True))
        return collate([ids[a:b] for a, b in bounds], [wrote[a:b] for a, b in bounds])

    return _memmapped(rows.count, batch, read)


def memmap_texts(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The same of texts."""
    folder.mkdir()
    encoded = [text.encode() for text in rows.texts]
    edges = np.concatenate([[0], np.cumsum([len(text) for text in encoded])])
    (folder / "texts").write_bytes(b"".join(encoded))
    flat = memoryview(np.memmap(folder / "texts", np.uint8, "r"))

    def read(positions: Array) -> list[str]:
        return [
            str(flat[a:b], "utf-8")
            for a, b in zip(edges[positions].tolist(), edges[positions + 1].tolist(), strict=True)
        ]

    return _memmapped(rows.count, batch, read)


def _memmapped(count: int, batch: int, read: Callable[[Array], Any]) -> dict[str, Way]:
    def any_order() -> Iterator[Any]:
        for epoch in itertools.count():
            order = np.random.default_rng(epoch).permutation(count)
            yield from (read(order[start : start + batch]) for start in range(0, count, batch))

    def by_blocks() -> Iterator[Any]:
        for epoch in itertools.count():
            order = Order(count, 0, epoch).between(0, count)
            yield from (read(order[start : start + batch]) for start in range(0, count, batch))

    return {"numpy memmap": any_order, "numpy memmap, by blocks": by_blocks}


# Deep Lake


def deeplake_tokens(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """`ds.pytorch()`, and columns of blocks."""
    import deeplake

    made = deeplake.create(str(folder))
    made.add_column("ids", deeplake.types.Array("int32", 1))
    made.add_column("wrote", deeplake.types.Array("int8", 1))
    for start in range(0, rows.count, WRITTEN):
        ids, wrote = rows.token_rows(start, min(start + WRITTEN, rows.count))
        made.append({"ids": ids, "wrote": wrote})
    made.commit()
    opened = deeplake.open_read_only(str(folder))

    def read(start: int, stop: int) -> list[tuple[Array, Array]]:
        return list(zip(opened["ids"][start:stop], opened["wrote"][start:stop], strict=True))

    return {
        "Deep Lake, own": loaded(opened.pytorch(), batch, collate_rows, 0, shuffle=True),
        "Deep Lake, by blocks": lambda: (collate(*zip(*some, strict=True)) for some in mixed(rows.count, batch, read)),
    }


def deeplake_texts(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The same of texts."""
    import deeplake

    made = deeplake.create(str(folder))
    made.add_column("text", deeplake.types.Text())
    for start in range(0, rows.count, WRITTEN):
        made.append({"text": rows.texts[start : start + WRITTEN]})
    made.commit()
    opened = deeplake.open_read_only(str(folder))
    return {
        "Deep Lake, own": loaded(opened.pytorch(), batch, texts_of, 0, shuffle=True),
        "Deep Lake, by blocks": lambda: mixed(rows.count, batch, lambda a, b: list(opened["text"][a:b])),
    }


# Hugging Face datasets


def hf_tokens(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """`with_format` and torch's loader; its shuffled iterable; and Arrow slices of blocks."""
    tables = []
    for start in range(0, rows.count, WRITTEN):
        ids, wrote = rows.token_rows(start, min(start + WRITTEN, rows.count))
        lists = [pa.array(ids, pa.list_(pa.int32())), pa.array(wrote, pa.list_(pa.int8()))]
        tables.append(pa.table(lists, ["ids", "wrote"]))
    dataset = _hf(pa.concat_tables(tables), folder)
    arrow = dataset.with_format("arrow")

    def read(start: int, stop: int) -> list[tuple[Array, Array]]:
        table = arrow[start:stop]
        flat = []
        for name in ("ids", "wrote"):
            column = table[name].combine_chunks()
            edges, values = column.offsets.to_numpy(), column.values.to_numpy()
            flat.append([values[a:b] for a, b in itertools.pairwise(edges.tolist())])
        return list(zip(*flat, strict=True))

    shards = max(rows.count // 4096, 1)
    stream = (
        dataset.with_format("numpy").to_iterable_dataset(num_shards=shards).shuffle(seed=0, buffer_size=BLOCK * WINDOW)
    )
    return {
        "HF datasets, own": loaded(dataset.with_format("numpy"), batch, collate_rows, 0, shuffle=True),
        "HF datasets, own iterable": loaded(stream, batch, collate_rows, 0),
        "HF datasets, by blocks": lambda: (
            collate(*zip(*some, strict=True)) for some in mixed(rows.count, batch, read)
        ),
    }


def hf_texts(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The same of texts."""
    dataset = _hf(pa.table({"text": pa.array(rows.texts, pa.large_string())}), folder)
    arrow = dataset.with_format("arrow")
    stream = dataset.to_iterable_dataset(num_shards=max(rows.count // 4096, 1)).shuffle(
        seed=0, buffer_size=BLOCK * WINDOW
    )

    def read(start: int, stop: int) -> list[str]:
        # Faster than to_pylist, which makes a scalar of each.
        return arrow[start:stop]["text"].to_numpy().tolist()

    return {
        "HF datasets, own": loaded(dataset, batch, texts_of, 0, shuffle=True),
        "HF datasets, own iterable": loaded(stream, batch, texts_of, 0),
        "HF datasets, by blocks": lambda: mixed(rows.count, batch, read),
    }


def _hf(table: pa.Table, folder: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset(table).save_to_disk(folder)
    return datasets.load_from_disk(folder)


# MosaicML streaming


def mosaic_tokens(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """`StreamingDataset`, which shuffles by itself, and its items by blocks."""
    streaming = _mosaic()
    with streaming.MDSWriter(out=str(folder), columns={"ids": "ndarray:int32", "wrote": "ndarray:int8"}) as file:
        for ids, wrote in zip(*rows.token_rows(0, rows.count), strict=True):
            file.write({"ids": ids, "wrote": wrote})
    dataset = streaming.StreamingDataset(local=str(folder), batch_size=batch, shuffle=True)
    alone = streaming.StreamingDataset(local=str(folder), batch_size=batch)

    def read(start: int, stop: int) -> list[dict[str, Any]]:
        return [alone.get_item(index) for index in range(start, stop)]

    return {
        "MosaicML streaming, own": loaded(dataset, batch, collate_rows, 0),
        "MosaicML streaming, by blocks": lambda: map(collate_rows, mixed(rows.count, batch, read)),
    }


def mosaic_texts(rows: Rows, folder: Path, batch: int) -> dict[str, Way]:
    """The same of texts."""
    streaming = _mosaic()
    with streaming.MDSWriter(out=str(folder), columns={"text": "str"}) as file:
        for text in rows.texts:
            file.write({"text": text})
    dataset = streaming.StreamingDataset(local=str(folder), batch_size=batch, shuffle=True)
    alone = streaming.StreamingDataset(local=str(folder), batch_size=batch)

    def read(start: int, stop: int) -> list[str]:
        return [alone.get_item(index)["text"] for index in range(start, stop)]

    return {
        "MosaicML streaming, own": loaded(dataset, batch, texts_of, 0),
        "MosaicML streaming, by blocks": lambda: mixed(rows.count, batch, read),
    }


def _mosaic() -> Any:
    """The package. It imports torchvision for sets of images that nobody wants here; where that is absent, a stub."""
    import transformers

    assert transformers.__version__
    if "torchvision" not in sys.modules and not find_spec("torchvision"):
        for name in (
            "torchvision",
            "torchvision.datasets",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        ):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__dict__.update(VisionDataset=object, to_tensor=None)
    return importlib.import_module("streaming")


# All of them

# Those that mix as many rows at a time as our stream does, as all do that read by blocks; the others mix all rows.
NEARBY = ("flywheel", "HF datasets, own iterable")

KINDS: dict[str, dict[str, Callable[[Rows, Path, int], dict[str, Way]]]] = {
    "tokens": {
        "memmap": memmap_tokens,
        "flywheel": our_tokens,
        "deeplake": deeplake_tokens,
        "datasets": hf_tokens,
        "streaming": mosaic_tokens,
    },
    "text": {
        "memmap": memmap_texts,
        "flywheel": our_texts,
        "deeplake": deeplake_texts,
        "datasets": hf_texts,
        "streaming": mosaic_texts,
    },
}


def rate(batches: Iterator[Any], batch: int, seconds: float) -> float:
    """Rows a second, over so many seconds; a batch is held until the next is there. A stream goes on where it was."""
    began = time.perf_counter()
    done = took = 0
    held = None
    while took < seconds:
        held = next(batches)
        done += batch
        took = time.perf_counter() - began
    del held
    return done / took


def race(
    rows: Rows, kind: str, batch: int, runs: int, seconds: float, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the table, and the packages that are missing."""
    ways: dict[str, Iterator[Any]] = {}
    missing = []
    for package, made in KINDS[kind].items():
        if package in ("deeplake", "datasets", "streaming") and not find_spec(package):
            missing.append(package)
            continue
        ways |= {name: way() for name, way in made(rows, folder / f"{kind}-{package}", batch).items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            found = rate(way, batch, seconds)
            if turn:
                rates[name].append(found)
    # Loaders that read ahead stop before their files go.
    ways.clear()
    gc.collect()
    limit = max(float(np.median(rates[name])) for name in rates if name.startswith("numpy"))
    return [
        {
            "loader": name,
            "shuffled over": f"{BLOCK * WINDOW:,} rows"
            if name.startswith(NEARBY) or "by blocks" in name
            else "all rows",
            "rows/s": round(float(np.median(found))),
            "least": round(min(found)),
            "most": round(max(found)),
            "of memmap": float(np.median(found)) / limit,
        }
        for name, found in sorted(rates.items(), key=lambda item: -np.median(item[1]))
    ], missing


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long a run of one loader takes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = Rows(options.rows)
    for kind, name in (("tokens", "streaming"), ("text", "streaming-text")):
        with tempfile.TemporaryDirectory() as temporary:
            found, missing = race(rows, kind, options.batch, options.runs, options.seconds, Path(temporary))
        note = f"{options.rows:,} rows, batches of {options.batch}, one process, medians of {options.runs} runs."
        if kind == "text":
            note += (
                " What bounds the fast ones is memory: a text is read from the page cache, checked, and copied to a "
                "string of its own, about 0.5 us for 4.3 kB. That is two thirds of what ours takes; the rest is to "
                "find a window's texts in any segments and a step's place in the epoch. The loop over HF datasets does "
                "neither: one file, read through, no ranks and no place to go on from. It was asked to be at least as "
                "fast as all: from run to run one of the two is ahead, by up to a fourth."
            )
        if missing:
            note += f" Not installed here: {', '.join(missing)}."
        measure.write(name, found, title=f"Shuffled {kind} batches to torch", note=note)


if __name__ == "__main__":
    main()
