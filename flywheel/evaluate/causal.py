"""A causal language model under test: how likely it holds what was written, and what it would write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.rollout.quiet import quiet
from flywheel.schema import Step
from flywheel.train import policy
from flywheel.train.examples import IGNORED, Example
from flywheel.views.messages import parse_assistant, to_messages
from flywheel.views.window import recent

if TYPE_CHECKING:
    import torch

# Logits held at once (a gigabyte as 32-bit floats): with a large vocabulary a batch is cut into smaller ones.
LOGITS = 2**28


class CausalModel:
    """A model folder of transformers, loaded for evaluation.

    Raises:
        FlywheelError: when it cannot be loaded.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.tokenizer: Any
        with quiet():
            self._model, self.tokenizer = policy.load(str(folder))
        self._model.to(device).eval()
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = sorted({end for end in (*ends, self.tokenizer.eos_token_id) if end is not None})

    def negative_log_likelihood(self, examples: Sequence[Example]) -> tuple[float, int]:
        """The sum in nats over the labelled tokens of one batch, and their number; each token given those before."""
        most = max(1, LOGITS // (max(len(e.input_ids) for e in examples) * self._model.config.vocab_size))
        parts = [self._sum_of_nats(examples[i : i + most]) for i in range(0, len(examples), most)]
        return sum(nats for nats, _ in parts), sum(count for _, count in parts)

    def _sum_of_nats(self, examples: Sequence[Example]) -> tuple[float, int]:
        import torch
        from torch.nn.functional import cross_entropy

        ids, mask = self._padded([e.input_ids for e in examples], left=False)
        longest = ids.shape[1]
        labels = torch.tensor([e.labels + [IGNORED] * (longest - len(e.labels)) for e in examples], device=ids.device)
        with torch.inference_mode():
            logits = self._model(ids, attention_mask=mask).logits[:, :-1]
            wanted = labels[:, 1:]
            known = wanted != IGNORED
            loss = cross_entropy(logits[known].float(), wanted[known], reduction="sum")
        return float(loss), int(known.sum())

    def prompt(self, steps: Sequence[Step], tools: str, most: int) -> list[int]:
        """The tokens before an assistant's next step: the opening and the latest steps, at most `most`.

        Where the opening leaves no room for the latest step, they are the last `most` of all.
        """
        encoded = self.tokenizer.apply_chat_template(
            to_messages(recent(self.tokenizer, steps, tools, most)),
            tools=json.loads(tools) or None,
            add_generation_prompt=True,
            return_dict=True,
        )
        return encoded["input_ids"][-most:]

    def write(self, prompts: Sequence[list[int]], max_tokens: int) -> list[Step]:
        """The greedy next step after each prompt of one batch."""
        import torch

        ids, mask = self._padded(prompts, left=True)
        with torch.inference_mode():
            # Sampling settings that a checkpoint brings along have no say in greedy decoding.
            out = self._model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self._ends,
            )
        nothing = {*self._ends, self.tokenizer.pad_token_id}
        written = [[token for token in row if token not in nothing] for row in out[:, ids.shape[1] :].tolist()]
        return [parse_assistant(self.tokenizer.decode(row, skip_special_tokens=False)) for row in written]

    def _padded(self, rows: Sequence[list[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, padded to the longest row on one side."""
        import torch

        longest, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        gaps = [longest - len(row) for row in rows]
        ids = [[pad] * g + row if left else row + [pad] * g for row, g in zip(rows, gaps, strict=True)]
        seen = [
            [0] * g + [1] * len(row) if left else [1] * len(row) + [0] * g for row, g in zip(rows, gaps, strict=True)
        ]
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(seen, device=device)
