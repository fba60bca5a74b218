"""An actor that samples from a causal model of transformers: a whole frontier of situations in a few batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flywheel import environments
from flywheel.environments.protocol import Act, Situation
from flywheel.rollout import threads
from flywheel.rollout.quiet import quiet
from flywheel.schema import FlywheelError, Step
from flywheel.views.messages import parse_assistant, to_messages

# Steps that have ended leave the batch once no more than this share of it goes on: leaving copies the cache.
SPARSE = 0.7


class TransformersActor:
    """A checkpoint (folder or Hugging Face name) that acts.

    Each situation is read once, and its cache repeated for the `n` steps sampled from it. `rows` bounds how many
    steps are written at the same time. `tools` are the schemas that a chat template may render, by environment;
    those of the environments that ship are known. A step ends at the end-of-turn token or after `max_tokens`.

    Raises:
        FlywheelError: when the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        name: str,
        version: str,
        device: str = "cpu",
        max_tokens: int = 64,
        rows: int = 96,
        tools: Mapping[str, Sequence[dict[str, Any]]] | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name = name
        self.version = version
        self.max_tokens = max_tokens
        self.rows = rows
        try:
            with quiet():
                self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
                loaded: Any = AutoModelForCausalLM.from_pretrained(model)
            self._model = loaded.to(device).eval()
            threads.suit(self._model)
        except (OSError, ValueError) as error:
            raise FlywheelError(f"there is no causal model {str(model)!r}: {error}") from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = sorted({e for e in (*ends, self._tokenizer.eos_token_id) if e is not None})
        shipped = {name: environments.get(name).tools for name in environments.names()}
        self._tools: dict[str, list[dict[str, Any]]] = {k: list(v) for k, v in {**shipped, **(tools or {})}.items()}

    def act(self, situations: Sequence[Situation], *, n: int, temperature: float, seed: int) -> list[list[Act]]:
        """`n` steps for each situation, sampled independently; at temperature 0 the greedy step, `n` times.

        `Act.logprob` is that of the untempered model. The same call gives the same steps.
        """
        import torch

        generator = torch.Generator(self._model.device).manual_seed(seed)
        prompts = [self._prompt(situation) for situation in situations]
        siblings = n if temperature > 0 else 1
        acts: list[list[Act]] = [[] for _ in situations]
        # Prompts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        size = max(1, self.rows // siblings)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            written = self._sample([prompts[i] for i in chosen], siblings, temperature, generator)
            for i, sampled in zip(chosen, written, strict=True):
                acts[i] = sampled if temperature > 0 else sampled * n
        return acts

    @property
    def context(self) -> int | None:
        """How many tokens a prompt and its answer may have together; None where the model does not say."""
        return getattr(self._model.config, "max_position_embeddings", None)

    def prompt(self, steps: Sequence[Step], tools: Sequence[dict[str, Any]] | None) -> list[int]:
        """The tokens of a conversation, up to where the assistant's turn begins."""
        encoded = self._tokenizer.apply_chat_template(
            to_messages(steps), tools=tools or None, add_generation_prompt=True, return_dict=True
        )
        return encoded["input_ids"]

    def write(
        self, prompt: list[int], *, n: int, temperature: float, seed: int, max_tokens: int
    ) -> Iterator[list[tuple[int, int, float]]]:
        """`n` answers to a prompt, token by token: of each that goes on its number, the token, its log-probability."""
        import torch

        generator = torch.Generator(self._model.device).manual_seed(seed)
        tokens = self._tokens([prompt], n, temperature, generator, max_tokens)
        while True:
            with torch.inference_mode():  # not while whoever reads has the next word
                found = next(tokens, None)
            if found is None:
                return
            yield list(zip(*(part.tolist() for part in found), strict=True))

    def ended(self, token: int) -> bool:
        """Whether a token ends a turn."""
        return token in self._ends

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, but for one that ends a turn."""
        said = tokens[:-1] if tokens and self.ended(tokens[-1]) else tokens
        return self._tokenizer.decode(list(said), skip_special_tokens=False)

    def token(self, token: int) -> str:
        """What one token says, whatever it is."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def _prompt(self, situation: Situation) -> list[int]:
        return self.prompt(situation.steps, self._tools.get(situation.task.environment))

    def _sample(self, prompts: list[list[int]], n: int, temperature: float, generator: Any) -> list[list[Act]]:
        """`n` acts for each prompt, in one batch."""
        import torch

        tokens: list[list[int]] = [[] for _ in range(len(prompts) * n)]
        logprobs = torch.zeros(len(tokens), device=self._model.device)
        with torch.inference_mode():
            for rows, written, logp in self._tokens(prompts, n, temperature, generator, self.max_tokens):
                logprobs[rows] += logp
                for row, one in zip(rows.tolist(), written.tolist(), strict=True):
                    tokens[row].append(one)
        acts = self._read(tokens, logprobs.tolist())
        return [acts[i : i + n] for i in range(0, len(acts), n)]

    def _tokens(
        self, prompts: list[list[int]], n: int, temperature: float, generator: Any, max_tokens: int
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Read the prompts, then write token by token until all `n` answers of each have ended.

        Gives tensors of the rows that go on, of their tokens, and of the log-probabilities of those.
        """
        import torch

        device = self._model.device
        longest = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        ends = torch.tensor(self._ends, device=device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self._model(ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
        cache, logits = out.past_key_values, out.logits[:, -1].float().repeat_interleave(n, 0)
        if n > 1:
            cache.batch_repeat_interleave(n)
        mask, positions = mask.repeat_interleave(n, 0), positions[:, -1:].repeat_interleave(n, 0)
        rows = torch.arange(len(prompts) * n, device=device)
        going = torch.ones(len(rows), dtype=torch.bool, device=device)
        for _ in range(max_tokens):
            logp = logits.log_softmax(-1)
            if temperature > 0:
                token = torch.multinomial((logp / temperature).softmax(-1), 1, generator=generator)
            else:
                token = logp.argmax(-1, keepdim=True)
            yield rows[going], token[going, 0], logp.gather(1, token)[going, 0]
            going &= ~torch.isin(token[:, 0], ends)
            left = int(going.sum())
            if not left:
                break
            if left <= SPARSE * len(rows):
                keep = going.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, mask, positions, token, going = (t[keep] for t in (rows, mask, positions, token, going))
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            positions = positions + 1
            out = self._model(token, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1].float()

    def _read(self, tokens: list[list[int]], logprobs: list[float]) -> list[Act]:
        """Written tokens as acts; siblings that wrote the same are read once."""
        steps: dict[tuple[int, ...], Step] = {}
        acts: list[Act] = []
        for written, logprob in zip(tokens, logprobs, strict=True):
            said = tuple(written[:-1] if written[-1] in self._ends else written)
            if said not in steps:
                steps[said] = parse_assistant(self._tokenizer.decode(list(said), skip_special_tokens=False))
            acts.append(Act(step=steps[said], logprob=logprob, tokens=len(written)))
        return acts
