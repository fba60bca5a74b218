"""Sequences: the tokenised windows of a selection, with what of them is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.corpus.streaming import kept, tokens
from flywheel.corpus.streaming.kept import Kept
from flywheel.corpus.streaming.order import Positions
from flywheel.schema import FlywheelError

# The label that a loss ignores, by the convention of torch.
IGNORED = -100

# What is trained on: all that the assistant wrote; its steps without tool calls; its steps with them.
TrainOn = Literal["assistant", "answers", "calls"]
COUNTED = {"assistant": "n_trained", "answers": "n_answers", "calls": "n_calls"}

# What is known of each window without its tokens.
INDEX = pa.schema([field for field in tokens.SEGMENT if not pa.types.is_list(field.type)])


def find(files: Sequence[Path], keys: pa.Table) -> pa.Table:
    """What segments hold of conversations (trajectory_id, content_digest), by trajectory_id and window; see `kept`."""
    return kept.find(files, keys, INDEX, "n_tokens", "window")


class Tokens(NamedTuple):
    """Token ids, and for each what it is (`tokens.READ`, ...). Views of the file, not copies."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    wrote: np.ndarray[Any, np.dtype[np.int8]]


class Sequences(Kept):
    """Windows in order of (trajectory_id, window), each with at least one token to train on.

    `trained` counts those of each. `found` is what `find` gives.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        found: pa.Table,
        *,
        train_on: TrainOn = "assistant",
        pad_token: int = 0,
    ) -> None:
        if train_on not in COUNTED:
            raise FlywheelError(f"there is nothing to train on called {train_on!r}; it is {', '.join(COUNTED)}")
        self.train_on, self.pad_token = train_on, pad_token
        found = self._to_train(found)
        super().__init__(
            f"{name}, trained on {train_on}", files, found, "n_tokens", ["trajectory_id", "content_digest", "window"]
        )
        self.trained: Positions = found[COUNTED[train_on]].to_numpy().astype(np.int64)

    def _to_train(self, found: pa.Table) -> pa.Table:
        return found.filter(pc.field(COUNTED[self.train_on]) > 0)

    def _find(self, files: Sequence[Path], keys: pa.Table) -> pa.Table:
        return self._to_train(find(files, keys))

    def tokens(self, positions: Positions) -> list[Tokens]:
        """Some windows, in the order of `positions`."""
        return [Tokens(of.ids[start:end], of.wrote[start:end]) for of, start, end in self._places(positions)]

    def batch(self, positions: Positions, *, packed: bool = False, trained: bool = True) -> dict[str, Any]:
        """Windows as `padded` or `packed`; with `trained` off, all labels are `IGNORED`."""
        made = self.packed(positions) if packed else self.padded(positions)
        if not trained:
            made["labels"].fill(IGNORED)
        return made

    def padded(self, positions: Positions) -> dict[str, Any]:
        """`input_ids`, `labels` and `attention_mask` (n, longest), int64, padded on the right.

        A label is the token itself where it is trained on, else `IGNORED`.
        """
        shape = (len(positions), int(self.lengths[positions].max()))
        ids = np.full(shape, self.pad_token, np.int64)
        wrote = np.zeros(shape, np.int8)
        mask = np.zeros(shape, np.int64)
        for row, (of, start, end) in enumerate(self._places(positions)):
            length = end - start
            ids[row, :length] = of.ids[start:end]
            wrote[row, :length] = of.wrote[start:end]
            mask[row, :length] = 1
        return {"input_ids": ids, "labels": self._labels(ids, wrote), "attention_mask": mask}

    def packed(self, positions: Positions) -> dict[str, Any]:
        """The windows in one row behind each other, without padding, as TRL's padding-free collator gives them.

        `input_ids`, `labels` and `position_ids` (1, tokens), int64; the positions of each window begin at 0, by
        which models keep attention within it. `cu_seq_lens_q` and `cu_seq_lens_k` (windows + 1), int32, say where
        each begins and the last ends, `max_length_q` and `max_length_k` how long the longest is, and `seq_idx`
        (1, tokens), int32, which a token belongs to. `use_cache` is off: with a cache, models of transformers let
        attention cross from one window into the next.
        """
        found = self.tokens(positions)
        lengths = self.lengths[positions]
        edges = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.concatenate([of.ids for of in found], dtype=np.int64)
        wrote = np.concatenate([of.wrote for of in found])
        bounds = edges.astype(np.int32)
        longest = int(lengths.max())
        return {
            "input_ids": ids[None],
            "labels": self._labels(ids, wrote)[None],
            "position_ids": (np.arange(edges[-1]) - np.repeat(edges[:-1], lengths))[None],
            "cu_seq_lens_q": bounds,
            "cu_seq_lens_k": bounds,
            "max_length_q": longest,
            "max_length_k": longest,
            "seq_idx": np.repeat(np.arange(len(found), dtype=np.int32), lengths)[None],
            "use_cache": False,
        }

    def _labels(self, ids: np.ndarray, wrote: np.ndarray) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self.train_on == "assistant":
            seen = wrote > tokens.READ
        else:
            seen = wrote == (tokens.CALL if self.train_on == "calls" else tokens.ANSWER)
        return np.where(seen, ids, IGNORED)

    def _columns(self, batch: pa.RecordBatch) -> Tokens:
        return Tokens(*(batch.column(name).values.to_numpy() for name in ("input_ids", "wrote")))
