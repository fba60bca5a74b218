"""What every TRL trainer of ours has in common: its arguments, complete checkpoints, and a word on its progress."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.train.config import Run

COMPLETE = "complete"


def arguments(run: Run, folder: Path) -> dict[str, Any]:
    """The arguments that SFT and DPO share; bfloat16 where there is a GPU, plain float32 where there is none."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "seed": run.seed,
        "data_seed": run.seed,
        "per_device_train_batch_size": run.batch,
        "learning_rate": run.learning_rate,
        "warmup_steps": run.warmup,
        "optim": "adamw_torch",
        "save_strategy": "steps",
        "save_steps": run.checkpoint_every,
        # The checkpoint before the last outlives a kill in the middle of a save.
        "save_total_limit": 2,
        # A mean over several steps would begin anew where a killed run goes on.
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
        "dataloader_pin_memory": gpu,
    }


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that was wholly written; torn ones are removed."""
    found: list[tuple[int, Path]] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).exists():
            found.append((int(checkpoint.name.removeprefix("checkpoint-")), checkpoint))
        else:
            shutil.rmtree(checkpoint)
    return max(found)[1] if found else None


def watch(trainer: Any, progress: Callable[[dict[str, Any]], None] | None) -> None:
    """Mark each checkpoint when it is whole, and tell `progress` of each step: {step, steps, loss}."""
    from transformers import PrinterCallback, TrainerCallback

    class Watch(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if progress and logs and "loss" in logs:
                progress({"step": state.global_step, "steps": state.max_steps, "loss": float(logs["loss"])})

    # It prints to standard output, which is for results alone.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch())


def metrics(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The logged row of each step, with its loss; `num_tokens` is left out, since TRL counts it anew after a resume."""
    return [{k: v for k, v in row.items() if k != "num_tokens"} for row in history if "loss" in row]
