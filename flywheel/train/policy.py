"""The models that are trained: a small Qwen3 from scratch, or any causal language model of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.rollout import threads
from flywheel.schema import FlywheelError
from flywheel.train.config import Size


def scratch(tokenizer: Any, size: Size, context: int, seed: int) -> Any:
    """A Qwen3 with random weights, tied embeddings and a vocabulary that fits the tokenizer.

    Equal seed, equal weights.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=size.width // size.heads,
        max_position_embeddings=max(2048, context),
        initializer_range=size.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    threads.suit(model)
    return model


def load(model: str) -> tuple[Any, Any]:
    """A causal model and its tokenizer, by folder or by Hugging Face name; adapters are merged into their base.

    Raises:
        FlywheelError: when there is none, or it has no chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        loaded = AutoModelForCausalLM.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise FlywheelError(f"there is no causal model {model!r}: {error}") from error
    if not tokenizer.chat_template:
        raise FlywheelError(f"the tokenizer of {model!r} has no chat template; take an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    threads.suit(loaded)
    return loaded, tokenizer


def adapter(rank: int) -> Any:
    """The LoRA settings of a rank, on all linear layers; None for rank 0."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer in Hugging Face format; a LoRA adapter is merged, so that any server can load it."""
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
