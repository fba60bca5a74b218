"""What a training run is: a frozen record of every choice that can change the weights."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flywheel.schema import FlywheelError


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a policy from scratch (a Qwen3): 0.7 million parameters by default."""

    width: int = 128
    layers: int = 3
    heads: int = 4
    feed_forward: int = 320
    # The usual 0.02 does not leave the plateau within a few hundred steps at this width.
    initializer_range: float = 0.06


class SFTRun(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sft", forbid_unknown_fields=True):
    """Supervised fine-tuning on what assistants wrote.

    `data` is a corpus version (`NAME@vN`) or the path of a Parquet file of trajectories. `base` is `scratch`, the id
    of a policy, or the folder or Hugging Face name of a causal model. `steps` are optimiser steps of `batch`
    sequences; `context` is in tokens: longer trajectories are cut into windows. `lora_rank` 0 trains all weights.
    The defaults suit a policy from scratch; large models want a rate of about 2e-5.
    """

    data: str
    base: str = "scratch"
    size: Size = Size()
    seed: int = 0
    steps: int = 320
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    context: int = 1024
    lora_rank: int = 0
    checkpoint_every: int = 80


class DPORun(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dpo", forbid_unknown_fields=True):
    """Direct preference optimisation on step pairs, with a supervised term on the chosen step.

    `pairs` are Parquet files (or folders that hold `pairs.parquet`), pooled. `base` as for SFT, but never `scratch`.
    `beta` is the strength of the pull to the base policy (arXiv 2305.18290, equation 7). No decision makes up more
    than `decision_share` of the pairs. Large models want a rate of about 1e-6.
    """

    pairs: tuple[str, ...]
    base: str
    seed: int = 0
    epochs: int = 2
    batch: int = 16
    learning_rate: float = 2e-4
    warmup: int = 5
    beta: float = 0.1
    sft_weight: float = 0.5
    decision_share: float = 0.25
    context: int = 1024
    lora_rank: int = 0
    checkpoint_every: int = 40


Run = SFTRun | DPORun


def load(path: Path) -> Run:
    """The run that a JSON file describes.

    Raises:
        FlywheelError: when the file is absent, or holds an unknown name or a value of the wrong type.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except FileNotFoundError as error:
        raise FlywheelError(f"there is no training config {path}") from error
    except msgspec.MsgspecError as error:
        raise FlywheelError(f"{path} is no training run: {error}") from error
