"""Passages: which of many given word sequences stand, word for word, in which texts."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from flywheel.curate import grams

# A passage is looked up by one run of it of at most so many words.
PROBE = 3


class Passages:
    """Needles (a frame with e, kind and needle: words with one space between), ready to be looked for."""

    def __init__(self, needles: pl.DataFrame) -> None:
        self._needles = needles.with_row_index("n")
        self._probes: dict[int, tuple[grams.Vocabulary, pl.DataFrame]] = {}
        words = grams.hashed(self._needles["needle"].str.split(" "))
        lengths = np.diff(words.offsets).clip(max=PROBE)
        for size in range(1, PROBE + 1):
            documents, values, _ = grams.runs(words, size)
            own = lengths[documents] == size
            runs = pl.DataFrame({"n": documents[own].astype(np.uint32), "value": values[own]}).unique()
            # The run that fewest needles share stands for a needle: "the user wants" is in many of them.
            rarest = (
                runs.with_columns(often=pl.len().over("value")).sort("n", "often", "value").unique("n", keep="first")
            )
            if len(rarest):
                self._probes[size] = (grams.Vocabulary(rarest["value"].to_numpy()), rarest.select("n", "value"))

    def find(self, words: pl.Series, hashes: grams.Words) -> pl.DataFrame:
        """Which needle stands in which document: columns doc (place in `words`), e, kind, needle; ordered."""
        pairs = [pl.DataFrame(schema={"doc": pl.UInt32, "n": pl.UInt32})]
        for size, (vocabulary, probes) in self._probes.items():
            documents, values, _ = grams.runs(hashes, size)
            where, _ = vocabulary.find(values)
            met = pl.DataFrame({"doc": documents[where].astype(np.uint32), "value": values[where]}).unique()
            pairs.append(met.join(probes, on="value").select("doc", "n"))
        likely = pl.concat(pairs).unique().sort("doc", "n").join(self._needles, on="n", maintain_order="left")
        texts = {doc: f" {' '.join(words[doc].to_list())} " for doc in likely["doc"].unique().to_list()}
        stands = [f" {needle} " in texts[doc] for doc, needle in likely.select("doc", "needle").iter_rows()]
        return likely.filter(pl.Series(stands, dtype=pl.Boolean)).select("doc", "e", "kind", "needle").sort("doc", "e")


def excerpt(text: str, needle: str, size: int) -> str:
    """About so many characters of a text around a passage of it, as written; the passage alone where it is longer."""
    found = re.search(r"[\W]+".join(map(re.escape, needle.split(" "))), text, re.IGNORECASE)
    if not found:
        return needle[:size]
    room = max(0, size - len(found[0])) // 2
    start = max(0, found.start() - room)
    return text[start : start + size]
