"""The default tokenizer: one token a word, one a piece of tool-call scaffold, and bytes for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flywheel.train.template import TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TURN = "<|im_end|>"
PAD = "<|endoftext|>"
UNKNOWN = "<|unknown|>"

# A word, a punctuation mark or a space: an entity is the same token in prose, in JSON and in a path.
PIECE = r"\w+|[^\w\s]|\s"

TURNS = (
    "<|im_start|>system\n",
    "\n<|im_start|>user\n",
    "<|im_start|>user\n",
    "\n<|im_start|>assistant\n",
    "<|im_start|>assistant\n",
    "\n<|im_start|>user\n<tool_response>\n",
    "\n<tool_response>\n",
    "\n</tool_response>",
    # The end of a user's turn that only carries tool answers is never the assistant's own: one token for both.
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    "<think>\n",
    "\n</think>\n\n",
    "<tool_call>\n",
    "\n</tool_call>",
    "\n<tool_call>\n",
    '"}}\n</tool_call>',
    "}}\n</tool_call>",
)


def scaffolds(tools: Iterable[dict[str, Any]]) -> list[str]:
    """The texts that a call of these tools is built of, in the order of the schemas, without repeats.

    For a tool with text parameters `order` and `reason`: the call up to the first value, for either parameter, and
    what stands between two values.
    """
    pieces: dict[str, None] = {}
    for tool in tools:
        function = tool["function"]
        opening = f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {{'
        pieces[opening] = None
        for name, schema in function.get("parameters", {}).get("properties", {}).items():
            quote = '"' if schema.get("type") == "string" else ""
            pieces[f'{opening}"{name}": {quote}'] = None
            pieces[f'", "{name}": {quote}'] = None
            pieces[f', "{name}": {quote}'] = None
    return list(pieces)


def build(
    tools: Iterable[dict[str, Any]],
    texts: Iterable[str],
    lines: Iterable[str] = (),
    *,
    max_words: int = 8192,
    min_count: int = 2,
) -> PreTrainedTokenizerFast:
    """A tokenizer with a ChatML template, made of tool schemas and of the words that `texts` use most.

    Each of `lines` is one token: what stands alike in every prompt tells a small policy no more than its name would.

    Any text is encodable, and decodes to itself: what is no word of the vocabulary falls apart into smaller words
    and single bytes. The same inputs give the same tokenizer.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in split.pre_tokenize_str(text))
    ranked = sorted((word for word, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    vocabulary = [PAD, END_OF_TURN, UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256)), *ranked[:max_words]]
    # All words weigh the same, so the most likely segmentation is the one with the fewest pieces.
    model = models.Unigram([(piece, -1.0) for piece in vocabulary], unk_id=2, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([PAD, END_OF_TURN])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*TURNS, *scaffolds(tools), *lines)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )
