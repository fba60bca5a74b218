"""Packing: sequences put together into packs of a fixed size, whole, so that little room is left over."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from functools import cached_property

import numpy as np

from flywheel.corpus.streaming.order import Order, Positions
from flywheel.schema import FlywheelError


def packed(lengths: np.ndarray, size: int) -> list[list[int]]:
    """Indices of sequences, pack by pack: the longest first, each into the fullest pack that has room for it.

    Best fit decreasing, as in "Fewer Truncations Improve Language Modeling" (Ding et al. 2024) and TRL's `bfd`;
    nothing is cut. Of equal lengths the earlier comes first, of equal room the older pack is filled.

    Raises:
        FlywheelError: when a sequence is longer than a pack.
    """
    if len(lengths) and int(lengths.max()) > size:
        raise FlywheelError(
            f"a sequence of {int(lengths.max())} tokens does not fit into a pack of {size}: take larger packs, "
            "or fewer max_tokens"
        )
    packs: list[list[int]] = []
    # The packs that have each amount of room, and the amounts that there are, ascending.
    having: defaultdict[int, list[int]] = defaultdict(list)
    rooms: list[int] = []
    longest_first = np.argsort(-lengths, kind="stable")
    for index, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        at = bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            pack = having[room].pop(0)
            if not having[room]:
                del rooms[at]
            packs[pack].append(index)
        else:
            room, pack = size, len(packs)
            packs.append([index])
        left = room - length
        if left:
            if not having[left]:
                insort(rooms, left)
            having[left].append(pack)
    return packs


class Packs:
    """The packs of an order. Each window is packed by itself and its packs are mixed, so none waits for the end.

    Where a pack stands follows from the lengths of the sequences before it alone; no token is read to find it.
    """

    def __init__(self, order: Order, lengths: np.ndarray, size: int) -> None:
        self.order, self.lengths, self.size = order, lengths, size
        # Where the packs of each window begin, as far as windows have been packed.
        self._starts = [0]
        self._held: tuple[int, list[Positions]] = (-1, [])

    @cached_property
    def count(self) -> int:
        """How many packs there are."""
        return self._reach(None)

    def between(self, start: int, stop: int) -> list[Positions]:
        """The samples of each pack from one place in the order of packs up to another."""
        stop = min(stop, self._reach(stop))
        found: list[Positions] = []
        while start < stop:
            window = int(np.searchsorted(self._starts, start, "right")) - 1
            base = self._starts[window]
            taken = self._window(window)[start - base : stop - base]
            found += taken
            start += len(taken)
        return found

    def _reach(self, stop: int | None) -> int:
        """Pack windows until `stop` packs are known, or all of them; how many are known."""
        while len(self._starts) <= self.order.windows and (stop is None or self._starts[-1] < stop):
            self._starts.append(self._starts[-1] + len(self._window(len(self._starts) - 1)))
        return self._starts[-1]

    def _window(self, window: int) -> list[Positions]:
        if self._held[0] != window:
            samples = self.order.in_window(window)
            packs = packed(self.lengths[samples], self.size)
            mixed = self.order.chance(len(packs), 1 + window, 1)
            self._held = (window, [samples[packs[index]] for index in mixed])
        return self._held[1]
