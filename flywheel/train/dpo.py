"""Direct preference optimisation with TRL, on step pairs: prefer one step over another from the same state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.preferences.pairs import balanced
from flywheel.schema import FlywheelError, Step
from flywheel.train import policy
from flywheel.train.config import DPORun
from flywheel.train.loop import arguments
from flywheel.views.messages import to_messages


def trainer(run: DPORun, pairs: pa.Table, base: str, folder: Path) -> tuple[Any, int]:
    """A TRL trainer that keeps its checkpoints in `folder`, and how many pairs it trains on.

    A supervised term on the chosen step keeps it likely: the preference term alone can lower both.

    Raises:
        FlywheelError: when there are no pairs, or none is shorter than the context.
    """
    import torch
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    model, tokenizer = policy.load(base)
    rows = [
        row
        for row in rendered(tokenizer, balanced(pairs, run.decision_share))
        if _length(tokenizer, row) <= run.context
    ]
    if not rows:
        raise FlywheelError(
            f"nothing to train on: of {pairs.num_rows} pairs none is within {run.context} tokens; trees give pairs "
            "where a policy now succeeds and now fails: grow more of them, or train it longer before"
        )
    torch.manual_seed(run.seed)
    return (
        DPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            peft_config=policy.adapter(run.lora_rank),
            args=DPOConfig(
                **arguments(run, folder),
                num_train_epochs=run.epochs,
                lr_scheduler_type="linear",
                beta=run.beta,
                loss_type=["sigmoid", "sft"],
                loss_weights=[1.0, run.sft_weight],
                precompute_ref_log_probs=True,
                max_length=None,
            ),
        ),
        len(rows),
    )


def rendered(tokenizer: Any, pairs: pa.Table) -> list[dict[str, str]]:
    """Pairs as text, `prompt`, `chosen` and `rejected`: each completion is exactly one assistant's turn, its end
    included. A pair stands as often as its weight says.

    Raises:
        FlywheelError: when the chat template does not put an answer behind its own prompt for one.
    """
    rows: list[dict[str, str]] = []
    for pair in pairs.select(["prompt", "tools", "chosen", "rejected", "weight"]).to_pylist():
        steps = to_messages(msgspec.json.decode(pair["prompt"], type=list[Step]))
        tools = json.loads(pair["tools"]) or None
        prompt = tokenizer.apply_chat_template(steps, tools=tools, add_generation_prompt=True, tokenize=False)
        row = {"prompt": prompt}
        for side in ("chosen", "rejected"):
            answer = to_messages([msgspec.json.decode(pair[side], type=Step)])
            whole = tokenizer.apply_chat_template([*steps, *answer], tools=tools, tokenize=False)
            if not whole.startswith(prompt):
                raise FlywheelError("the chat template renders an answer otherwise than behind its generation prompt")
            # Templates that end a turn with a newline would teach it as part of the answer.
            row[side] = whole.removeprefix(prompt).removesuffix("\n")
        rows += [row] * pair["weight"]
    return rows


def _length(tokenizer: Any, row: dict[str, str]) -> int:
    return max(len(tokenizer(row["prompt"] + row[side])["input_ids"]) for side in ("chosen", "rejected"))
