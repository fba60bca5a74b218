"""Taking rows from all over a table: through io_uring, where the kernel offers it."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.curate.tables import URING, reading

if TYPE_CHECKING:
    from lance import LanceDataset

# Rows of the table to each that is taken, from which on few of them are neighbours.
_FAR = 4

# Of Linux, on every architecture: a call's number, and the feature that came with the operations that Lance uses.
_IO_URING_SETUP = 425
_RW_CUR_POS = 1 << 3


def scattered(dataset: LanceDataset) -> LanceDataset:
    """The same state of a table, opened to take rows from all over it.

    On a disk of Linux it asks for a thousand rows at once, and not in a thousand calls of the kernel, which cost
    several times what the rows do. In a process that was forked from one that does, it is the table as it was opened.
    """
    if "://" in dataset.uri or _uring() != os.getpid():
        return dataset
    return _opened(f"{URING}{dataset.uri}", dataset.version)


def sparse(places: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
    """Whether rows lie so far apart that each is read by itself: neighbours are read together, better without."""
    return len(places) > 0 and int(places.max() - places.min()) >= _FAR * len(places)


def awake(dataset: LanceDataset) -> LanceDataset:
    """A table that answers in this process: a forked one does not inherit who reads through io_uring."""
    if dataset.uri.startswith(URING) and _uring() != os.getpid():
        return _opened(dataset.uri.removeprefix(URING), dataset.version)
    return dataset


def _opened(uri: str, version: int) -> LanceDataset:
    import lance

    with reading(uri):
        return lance.dataset(uri, version=version)


@cache
def _uring() -> int | None:
    """The process that asked first, where its kernel offers io_uring (from 5.6 on; containers may forbid it)."""
    if sys.platform != "linux":
        return None
    parameters = struct.Struct("30I")
    given = ctypes.create_string_buffer(parameters.size)
    descriptor = ctypes.CDLL(None).syscall(_IO_URING_SETUP, 1, given)
    if descriptor < 0:
        return None
    os.close(descriptor)
    return os.getpid() if parameters.unpack(given.raw)[5] & _RW_CUR_POS else None
