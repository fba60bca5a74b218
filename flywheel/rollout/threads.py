"""Threads of torch: a small model is faster on one, whose products are over before several have shared them out."""

from __future__ import annotations

from typing import Any

# Parameters. The default policy has under a million.
SMALL = 10_000_000


def suit(model: Any) -> None:
    """Let torch use one thread in this process when a model is small; larger ones keep what torch chose."""
    import torch

    if model.num_parameters() < SMALL:
        torch.set_num_threads(1)
