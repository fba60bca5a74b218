"""Silence for libraries that draw bars and print remarks: progress is ours to show, standard output is for results."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# TRL reads this one itself, at the moment it draws a bar.
BARS = "TQDM_DISABLE"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, datasets, TRL and the hub's client silent inside the block; all is as it was afterwards."""
    import datasets
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    level, bars, mapped = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    hub_level = hub.get_verbosity()
    before = os.environ.get(BARS)
    os.environ[BARS] = "1"
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()
        if not mapped:
            datasets.enable_progress_bars()
        if before is None:
            del os.environ[BARS]
        else:
            os.environ[BARS] = before
