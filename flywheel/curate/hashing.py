"""An embedder without a model: words and pieces of words, hashed into a short vector that is the same everywhere."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel.curate.words import Numbers, mixed, spread, text_words

SIZE = 384  # as long as the vectors of small sentence models

# Raised when the same text would get another vector.
RECIPE = "hashed 1"

WORD = r"[\p{L}\p{M}\p{N}]+"

# Words that say how something is asked and not what; they count a fifth. There are no document frequencies here: a
# vector depends on its text alone, so that it never has to be computed again.
COMMON = (
    "a all an and any are as at be been but by can could did do does each find for from get had has have he her hers "
    "him his how i if in into is it its just list me my no not of on or our ours please she show so than that the "
    "their them then there these they this those to too up us was we were what when where which who will with would "
    "you your yours"
)

# Bytes in a piece of a word that is written between two marks: <refund> has <re, ref, efu, ... and <ref, refu, ...
PIECES = (3, 4)

# A feature stands at so many places of the vector, each with a sign of its own: chance meetings average out.
PLACES = 4

# All weights are whole numbers, so that sums are exact in any order and on any machine.
WEIGHT = 64
ONCE = 20

# Rows of the matrix of words that are dense at once.
_DENSE = 8192


def vectors(texts: pa.Array | pa.ChunkedArray) -> Numbers:
    """One vector of length 1 a text: float32, (n, `SIZE`); zeros where there are no words.

    The sum over the distinct words of a text of 1 + ln(count) times the word's vector. That vector is the hashed word
    and, together as heavy, its hashed pieces, so that `refund` is near to `refunded`. Signed feature hashing after
    Weinberger et al. 2009; pieces of words after Bojanowski et al. 2017 (fastText).
    """
    from scipy.sparse import csr_matrix

    words = pl.Series("word", pl.from_arrow(texts), dtype=pl.String).fill_null("").str.to_lowercase()
    found = pl.DataFrame({"text": np.arange(len(texts)), "word": words.str.extract_all(WORD)}).explode("word")
    counts = found.group_by("text", "word").len()
    vocabulary = counts["word"].unique().sort()
    counts = counts.join(vocabulary.to_frame().with_row_index("column"), on="word")
    column = counts["column"].to_numpy()
    heavy = np.where(vocabulary.is_in(COMMON.split()).to_numpy(), ONCE // 5, ONCE)[column]
    heavy = np.rint(heavy * (1 + np.log(counts["len"].to_numpy())))
    weights = csr_matrix((heavy, (counts["text"].to_numpy(), column)), (len(texts), len(vocabulary)))
    total = np.zeros((len(texts), SIZE))
    for start in range(0, len(vocabulary), _DENSE):
        total += weights[:, start : start + _DENSE] @ _word_vectors(vocabulary[start : start + _DENSE])
    length = np.sqrt((total * total).sum(axis=1, keepdims=True))
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)


def _word_vectors(vocabulary: pl.Series) -> Numbers:
    """The vectors of words in lower case: whole numbers, (words, `SIZE`)."""
    hashes, bounds = text_words(vocabulary.to_arrow())
    number, whole = np.arange(len(vocabulary)), hashes[bounds[:-1]]
    word, piece = _pieces("<" + vocabulary + ">")
    weight = np.rint(WEIGHT / np.sqrt(np.bincount(word, minlength=len(vocabulary))))[word]
    rows, features = np.concatenate([number, word]), np.concatenate([whole, piece])
    values = np.concatenate([np.full(len(number), WEIGHT, np.float64), weight])
    found = np.zeros(len(vocabulary) * SIZE)
    for place in range(PLACES):
        hashed = mixed(features + np.uint64(place))
        column = ((hashed >> np.uint64(32)) * np.uint64(SIZE) >> np.uint64(32)).astype(np.int64)
        signed = np.where(hashed & np.uint64(1), values, -values)
        found += np.bincount(rows * SIZE + column, signed, minlength=len(found))
    return found.reshape(-1, SIZE)


def _pieces(marked: pl.Series) -> tuple[Numbers, Numbers]:
    """The pieces of words as (place of the word, hash)."""
    array = marked.to_arrow().cast(pa.large_string())
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    letters = np.concatenate([np.frombuffer(data, np.uint8), np.zeros(8, np.uint8)])
    eights = np.ndarray((len(letters) - 7,), "<u8", letters.data, strides=(1,))
    words, pieces = [], []
    for size in PIECES:
        counts = np.maximum(np.diff(bounds) - size + 1, 0)
        words.append(np.repeat(np.arange(len(array)), counts))
        value = eights[spread(bounds[:-1], counts)] & np.uint64((1 << 8 * size) - 1)
        pieces.append(mixed(value | np.uint64(size << 56)))
    return np.concatenate(words), np.concatenate(pieces)
