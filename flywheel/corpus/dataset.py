"""A corpus version as a torch dataset. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from flywheel.corpus.manifest import manifest
from flywheel.corpus.stream import RenderedRow, rendered, stream
from flywheel.settings import Home


class CorpusDataset(IterableDataset[Any]):
    """Rows of one split of a version, shuffled by blocks, for a `DataLoader` with any number of workers.

    Yields rows as dicts, or `RenderedRow`s of at most `max_tokens` tokens where a tokenizer is given. An epoch
    yields each row once over all workers; call `set_epoch` before each for another order. The version is fixed
    when the dataset is made. Lance runs threads, which a fork would cut off: let loaders with workers spawn them
    (`multiprocessing_context="spawn"`).
    """

    def __init__(
        self,
        home: Home,
        name: str,
        version: int | None = None,
        *,
        split: str = "train",
        seed: int = 0,
        tokenizer: Any = None,
        max_tokens: int = 4096,
    ) -> None:
        self.home, self.name, self.version = home, name, manifest(home, name, version).version
        self.split, self.seed, self.epoch = split, seed, 0
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. A loader that keeps its workers does not tell them."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any] | RenderedRow]:
        info = get_worker_info()
        rows = stream(
            self.home,
            self.name,
            self.version,
            split=self.split,
            seed=self.seed,
            epoch=self.epoch,
            worker=info.id if info else 0,
            workers=info.num_workers if info else 1,
        )
        return rows if self.tokenizer is None else rendered(rows, self.tokenizer, self.max_tokens)
