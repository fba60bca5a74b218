"""Order: one shuffled order of samples for a seed and an epoch, of which any stretch can be had without the rest."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from flywheel.schema import FlywheelError

Positions = np.ndarray[Any, np.dtype[np.int64]]

# Neighbours that stay together until they are mixed, so that reads are nearly contiguous; and blocks mixed at once.
BLOCK = 256
WINDOW = 8


class Order:
    """An order of `count` samples: blocks of neighbours shuffled, then the samples of each `window` blocks mixed.

    It follows from these numbers alone, whatever the machine, the files and the number of readers: the chances are
    raw draws of Philox (Salmon et al. 2011), a stream that numpy keeps for ever. A seed of None keeps the samples
    as they are.
    """

    def __init__(
        self, count: int, seed: int | None = 0, epoch: int = 0, *, block: int = BLOCK, window: int = WINDOW
    ) -> None:
        if count < 0 or min(block, window) < 1 or epoch < 0 or (seed is not None and seed < 0):
            raise FlywheelError(
                f"{count} samples in blocks of {block} and windows of {window}, seed {seed}, epoch {epoch}: "
                "take at least one sample and one block, and count seeds and epochs from 0"
            )
        self.count, self.seed, self.epoch, self.block, self.window = count, seed, epoch, block, window
        # The window that was read last, and where it begins.
        self._held: tuple[int, Positions] = (-1, np.empty(0, np.int64))
        self._base = 0

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.starts) - 1

    @cached_property
    def starts(self) -> Positions:
        """Where each window begins in the order, and at last where the order ends."""
        sizes = np.minimum(self.block, self.count - self._blocks * self.block)
        ends = np.cumsum(sizes)
        return np.concatenate([[0], ends[self.window - 1 :: self.window], ends[-1:]])[: self._window_count + 1]

    def in_window(self, window: int) -> Positions:
        """The samples of a window, in order."""
        if self._held[0] != window:
            blocks = self._blocks[window * self.window : (window + 1) * self.window]
            found = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
            found = found[found < self.count]
            self._held = (window, found[self.chance(len(found), 1 + window)])
            self._base = int(self.starts[window])
        return self._held[1]

    def over(self, start: int, stop: int) -> range:
        """The windows that hold the samples from one place in the order up to another."""
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        return range(first, int(np.searchsorted(self.starts, stop, "left")))

    def between(self, start: int, stop: int) -> Positions:
        """The samples from one place in the order up to another."""
        start, stop = max(start, 0), min(stop, self.count)
        _, held = self._held
        if (base := self._base) <= start < stop <= base + len(held):
            return held[start - base : stop - base]
        if start >= stop:
            return np.empty(0, np.int64)
        over = self.over(start, stop)
        found = [self.in_window(window) for window in over]
        base = int(self.starts[over.start])
        return np.concatenate(found)[start - base : stop - base]

    def chance(self, count: int, *parts: int) -> Positions:
        """A permutation that follows from seed, epoch and `parts`; the identity where there is no seed."""
        if self.seed is None:
            return np.arange(count)
        draws = np.random.Philox(np.random.SeedSequence([self.seed, self.epoch, *parts])).random_raw(count)
        return ranked(draws >> np.uint64(count.bit_length()))

    @cached_property
    def _blocks(self) -> Positions:
        return self.chance(-(-self.count // self.block), 0)

    @property
    def _window_count(self) -> int:
        return -(-len(self._blocks) // self.window)


def ranked(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> Positions:
    """The indices that sort numbers, equal ones in their order. With an index behind each they must be within 64 bits.

    Sorting the two as one number takes a quarter of the time of an argsort.
    """
    bits = np.uint64(len(numbers).bit_length())
    both = np.sort(numbers << bits | np.arange(len(numbers), dtype=np.uint64))
    return (both & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
