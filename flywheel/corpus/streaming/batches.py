"""Batches: the steps of an epoch, padded or packed, any of which can be had without the others."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.corpus.streaming.kept import Kept
from flywheel.corpus.streaming.order import Order, Positions
from flywheel.corpus.streaming.packing import Packs
from flywheel.schema import FlywheelError


class Batches:
    """An epoch over sequences or texts: a number of steps, each of `batch` samples for each of `ranks`.

    A sample is a sequence or a text, or, where `pack` gives a size in tokens, several sequences that fill it nearly.
    What a step holds over all ranks follows from the items, seed, epoch, pack and `batch * ranks` alone: neither from
    how many ranks share it, nor from who reads it. A seed of None keeps the order of ids. The last step is shared out
    as evenly as it goes; a rank that it leaves with nothing gets a sample of another rank that trains nothing, so that
    all ranks make equally many steps.
    """

    def __init__(
        self,
        items: Kept,
        *,
        batch: int,
        pack: int | None = None,
        seed: int | None = 0,
        epoch: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch < 1 or not 0 <= rank < ranks:
            raise FlywheelError(
                f"rank {rank} of {ranks} with batches of {batch}: count ranks from 0, and take at least one sample"
            )
        self.items, self.batch, self.pack, self.rank, self.ranks = items, batch, pack, rank, ranks
        self.order = Order(len(items), seed, epoch)

    @cached_property
    def packs(self) -> Packs | None:
        return None if self.pack is None else Packs(self.order, self.items.lengths, self.pack)

    @property
    def samples(self) -> int:
        """How many samples an epoch has. Of packs, this packs them all, if it was not done before."""
        return len(self.items) if self.packs is None else self.packs.count

    def __len__(self) -> int:
        """How many steps an epoch has, on every rank."""
        return -(-self.samples // (self.batch * self.ranks))

    def held(self, start: int, stop: int) -> list[Positions]:
        """The items of each sample from one place in the order of samples up to another."""
        if self.packs is None:
            return [*self.order.between(start, stop)[:, None]]
        return self.packs.between(start, stop)

    def step(self, step: int) -> dict[str, Any] | None:
        """What a step gives this rank; None behind the last. See `Sequences.padded`, `Sequences.packed`, `Texts`."""
        if self.packs is not None:
            packs = self._packs(step)
            mine = self._share(len(packs))
            given = packs[mine] or packs[:1]
            return (
                self.items.batch(np.concatenate(given), packed=True, trained=mine.start < mine.stop) if packs else None
            )
        first = step * self.batch * self.ranks
        count = min(self.batch * self.ranks, len(self.items) - first)
        if count <= 0:
            return None
        mine = self._share(count)
        if mine.start < mine.stop:
            return self.items.between(self.order, first + mine.start, first + mine.stop)
        return self.items.batch(self.order.between(first, first + 1), trained=False)

    def contents(self, step: int) -> pa.Table:
        """What a step gives this rank, by name: rows of the items' `keys`, in order."""
        if self.packs is not None:
            packs = self._packs(step)
            positions = np.concatenate([np.empty(0, np.int64), *packs[self._share(len(packs))]])
        else:
            size = self.batch * self.ranks
            samples = self.order.between(step * size, (step + 1) * size)
            positions = samples[self._share(len(samples))]
        return self.items.keys.take(pa.array(positions))

    def _packs(self, step: int) -> list[Positions]:
        """The packs of a step over all ranks."""
        size = self.batch * self.ranks
        return [] if self.packs is None else self.packs.between(step * size, (step + 1) * size)

    def _share(self, count: int) -> slice:
        """An even share of the samples that a step holds: of a full one, `batch` of them."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)
