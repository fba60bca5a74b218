"""Supervised fine-tuning with TRL: imitate what assistants wrote."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.settings import Home
from flywheel.train import inputs, policy, tokenizer
from flywheel.train.config import SFTRun
from flywheel.train.examples import Example, conversations, examples, kept
from flywheel.train.loop import arguments

# Lines of system prompts that become tokens: from so many characters on, and so many at most.
SHORTEST_LINE = 12
MOST_LINES = 1024


def trainer(run: SFTRun, home: Home, data: dict[str, Any], base: str, folder: Path) -> tuple[Any, int]:
    """A TRL trainer that keeps its checkpoints in `folder`, and how many sequences of described data it trains on.

    From `scratch`, the tokenizer is made of the rows' own tools and words. Any other lasts, and what of a corpus was
    tokenised for it before is not tokenised again.
    """
    import torch
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    if base == "scratch":
        rows = inputs.rows(home, data)
        words = vocabulary(rows)
        model = policy.scratch(words, run.size, run.context, run.seed)
        made = _dataset(examples(words, rows, run.context))
    else:
        model, words = policy.load(base)
        if "corpus" in data:
            made = kept(home, inputs.version(home, data), words, run.context)
        else:
            made = _dataset(examples(words, inputs.rows(home, data), run.context))
    torch.manual_seed(run.seed)
    return (
        SFTTrainer(
            model=model,
            processing_class=words,
            train_dataset=made,
            peft_config=policy.adapter(run.lora_rank),
            args=SFTConfig(
                **arguments(run, folder),
                max_steps=run.steps,
                lr_scheduler_type="cosine",
                weight_decay=run.weight_decay,
                adam_beta2=0.98,
                max_length=None,
            ),
        ),
        len(made),
    )


def _dataset(made: list[Example]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([msgspec.to_builtins(example) for example in made])


def vocabulary(rows: pa.Table) -> Any:
    """A tokenizer made of the tools that the rows offer, of the words in them, and of the lines of system prompts
    that several of them share.
    """
    tools: dict[str, None] = {}
    texts: list[str] = []
    lines: Counter[str] = Counter()
    for steps, offered in conversations(rows):
        tools.setdefault(offered)
        for step in steps:
            texts += [step.content or "", step.reasoning or "", *(call.arguments for call in step.tool_calls)]
            if step.role == "system":
                lines.update({line for line in (step.content or "").splitlines() if len(line) >= SHORTEST_LINE})
    schemas = [schema for offered in tools for schema in json.loads(offered)]
    shared = sorted((line for line, n in lines.items() if n > 1), key=lambda line: (-lines[line], line))
    return tokenizer.build(schemas, texts, shared[:MOST_LINES])
