"""Sequences as a dataset of Hugging Face, which trainers of TRL take as it is. Importing this imports datasets."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pyarrow as pa
from datasets import Dataset

from flywheel.corpus.streaming.batches import Batches
from flywheel.corpus.streaming.order import Positions
from flywheel.corpus.streaming.sequences import Sequences
from flywheel.schema import FlywheelError

_COLUMNS = pa.schema([("input_ids", pa.list_(pa.int64())), ("labels", pa.list_(pa.int64()))])
_PACKED = _COLUMNS.append(pa.field("seq_lengths", pa.list_(pa.int64())))


class CorpusExamples(Dataset):
    """Examples, `input_ids` and `labels` as arrays, read when they are asked for, for TRL's `SFTTrainer`.

    Example `i` is sample `i` of the order of the epoch, which trainers tell it (`set_epoch`): with
    `train_sampling_strategy="sequential"` a trainer follows that order, on any number of ranks and after a resume.
    With `pack` an example is a pack with its `seq_lengths`, for `padding_free=True`. Take `max_length=None` in either
    case, since nothing is to be cut any more. Only reading is meant: it has no rows of its own to map or filter.
    """

    def __init__(self, sequences: Sequences, *, pack: int | None = None, seed: int | None = 0) -> None:
        super().__init__((_PACKED if pack else _COLUMNS).empty_table())
        self.sequences, self.pack, self.seed = sequences, pack, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; a loader does not tell the workers that it keeps."""
        self.batches = Batches(self.sequences, batch=1, pack=self.pack, seed=self.seed, epoch=epoch)

    @property
    def num_rows(self) -> int:
        return self.batches.samples

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Generator[dict[str, Any], None, None]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, int):
            raise FlywheelError(f"examples are read one by one, by number; there is no {key!r} of them")
        if not 0 <= key < len(self):
            raise IndexError(key)
        [positions] = self.batches.held(key, key + 1)
        return self._example(positions)

    def __getitems__(self, keys: list[int]) -> list[dict[str, Any]]:
        return [self[key] for key in keys]

    def _example(self, positions: Positions) -> dict[str, Any]:
        made = self.sequences.packed(positions)
        example = {name: made[name][0] for name in _COLUMNS.names}
        return example | ({"seq_lengths": self.sequences.lengths[positions].tolist()} if self.pack else {})
