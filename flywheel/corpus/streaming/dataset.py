"""A corpus version as torch datasets and as a loader that stops and goes on anywhere. Importing this imports torch."""

from __future__ import annotations

import atexit
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from flywheel.corpus.manifest import manifest
from flywheel.corpus.streaming.batches import Batches
from flywheel.corpus.streaming.kept import Kept
from flywheel.corpus.streaming.stream import stream
from flywheel.schema import FlywheelError
from flywheel.settings import Home


class CorpusDataset(IterableDataset[dict[str, Any]]):
    """Rows of one split of a version as dicts, shuffled, for a `DataLoader` with any number of workers.

    An epoch yields each row once over all workers; call `set_epoch` before each for another order. The version is
    fixed when the dataset is made. Lance runs threads, which a fork would cut off: let loaders with workers spawn them
    (`multiprocessing_context="spawn"`).
    """

    def __init__(
        self,
        home: Home,
        name: str,
        version: int | str | None = None,
        *,
        split: str = "train",
        where: str | None = None,
        seed: int = 0,
    ) -> None:
        self.home, self.name, self.version = home, name, manifest(home, name, version).version
        self.split, self.where, self.seed, self.epoch = split, where, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. A loader that keeps its workers does not tell them."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        return stream(
            self.home,
            self.name,
            self.version,
            split=self.split,
            where=self.where,
            seed=self.seed,
            epoch=self.epoch,
            worker=info.id if info else 0,
            workers=info.num_workers if info else 1,
        )


class CorpusBatches(IterableDataset[dict[str, Any]]):
    """Batches for a `DataLoader` with `batch_size=None` and any number of workers, forked or spawned.

    Each batch is what `Batches` says: padded tensors as Hugging Face models take them, packed ones as TRL's
    padding-free trainers do, or lists of texts. Workers take turns, so a loader gives the same batches in the same
    order however many it has. Ranks are those of torch.distributed where it is running, unless they are given.

    `step` is where the next pass begins. `state_dict` and `load_state_dict` hold it, so that torchdata's
    `StatefulDataLoader` goes on at the next batch too, with as many workers as before.
    """

    def __init__(
        self,
        items: Kept,
        *,
        batch: int,
        pack: int | None = None,
        seed: int | None = 0,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        if rank is None or ranks is None:
            rank, ranks = _place()
        self.items, self.batch, self.pack, self.seed, self.rank, self.ranks = items, batch, pack, seed, rank, ranks
        self.epoch, self.step = 0, 0
        self._next: int | None = None
        self._made: Batches | None = None
        # What cannot be made is refused now, not in a worker.
        self.batches()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, which begins at its beginning. A loader tells no workers that it keeps."""
        self.epoch, self.step, self._next = epoch, 0, None

    def batches(self) -> Batches:
        """The epoch that the next pass reads."""
        if self._made is None or self._made.order.epoch != self.epoch:
            self._made = Batches(
                self.items,
                batch=self.batch,
                pack=self.pack,
                seed=self.seed,
                epoch=self.epoch,
                rank=self.rank,
                ranks=self.ranks,
            )
        return self._made

    def __len__(self) -> int:
        return len(self.batches())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        mine, workers = (info.id, info.num_workers) if info else (0, 1)
        steps = itertools.count(self.step + mine if self._next is None else self._next, workers)
        batches = self.batches()

        def following() -> dict[str, Any] | None:
            step = next(steps)
            self._next = step + workers
            made = batches.step(step)
            return made and {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in made.items()}

        # No batch is held here while the next is made: strings that stay keep the room of all from being taken whole.
        yield from iter(following, None)
        self._next = None

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.step, self._next = state["epoch"], state["step"], state["next"]


class CorpusLoader:
    """Batches, epoch after epoch, for a plain loop: `for batch in loader` goes to the end of an epoch.

    The next pass is the next epoch, in another order. `state_dict` says which batch comes next, whatever workers have
    read ahead; a loader that loads it gives exactly the batches that the first would have given, also with another
    number of workers, or of ranks where `batch` makes up for it.
    """

    def __init__(self, dataset: CorpusBatches, *, workers: int = 0, context: str | None = None) -> None:
        self.dataset, self.workers, self.context = dataset, workers, context
        self.epoch, self.step = 0, 0

    def __len__(self) -> int:
        """The batches of an epoch."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.dataset.set_epoch(self.epoch)
        self.dataset.step = self.step
        yield from map(self._counted, self._loader() if self.workers else self.dataset)
        self.epoch, self.step = self.epoch + 1, 0

    def _counted(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.step += 1
        return batch

    def _loader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            self.dataset,
            batch_size=None,
            num_workers=self.workers,
            multiprocessing_context=self.context,
            worker_init_fn=_leaving,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as plain values: save it beside the model."""
        return {"epoch": self.epoch, "step": self.step} | self._what()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader stood.

        Raises:
            FlywheelError: when that was over other content, or in another order.
        """
        for name, value in self._what().items():
            if state[name] != value:
                raise FlywheelError(
                    f"this state is of another stream: its {name} is {state[name]}, here it is {value}; "
                    "open the stream as it was, or begin anew"
                )
        self.epoch, self.step = state["epoch"], state["step"]

    def _what(self) -> dict[str, Any]:
        """All that decides what a step holds."""
        of = self.dataset
        return {
            "content": of.items.name,
            "count": len(of.items),
            "seed": of.seed,
            "pack": of.pack,
            "batch over all ranks": of.batch * of.ranks,
        }


def _leaving(_worker: int) -> None:
    """Let a spawned worker leave without Python's finalisation: it aborts a thread that still hands a tensor over."""
    atexit.register(os._exit, 0)


def _place() -> tuple[int, int]:
    """The rank of this process, and how many there are."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
